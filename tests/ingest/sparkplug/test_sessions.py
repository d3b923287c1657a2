"""Numbers decide on sessions, not bytes: births, deaths and sequences of odd nodes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from ingest.errors import RefusalReason
from ingest.sparkplug.decoder import Sparkplug
from ingest.sparkplug.sessions import ends_session, step_of
from ingest.sparkplug.store import SparkplugStore
from ingest.sparkplug.wire import Metric, encode_sparkplug
from tests.fakes.sparkplugnode import EdgeNode, Message
from tests.ingest.sparkplug.test_decoder import T0_MS, mapping, node, rebirths, refusal, take


@pytest.fixture
def sparkplug(tmp_path: Path) -> Iterable[Sparkplug]:
    found = Sparkplug(mapping(), SparkplugStore(tmp_path / "sparkplug.db"))
    yield found
    found.close()


def death(bdseq: int | None) -> Message:
    metrics = [] if bdseq is None else [Metric("bdSeq", field="long_value", value=bdseq)]
    return "spBv1.0/plant/NDEATH/line", encode_sparkplug(T0_MS, metrics)


def value_of(line: EdgeNode, sparkplug: Sparkplug, at_ms: int, value: float) -> list[float]:
    return [r[3]["a"] for r in take(sparkplug, line.data("press", at_ms, {"Sensors/A": value}))]


@pytest.mark.parametrize("dies", [True, False], ids=["with its death", "unseen"])
def test_a_node_without_a_clock_comes_back_with_the_same_bytes(
    sparkplug: Sparkplug, dies: bool
) -> None:
    for session in range(3):
        line = node()  # bdSeq 0, seq 0, the same time: the same bytes after every power cycle
        take(sparkplug, *line.births(T0_MS))
        assert sparkplug.status()["devices_online"] == 1
        assert value_of(line, sparkplug, T0_MS + 1, 5.0) == [5.0]
        assert value_of(line, sparkplug, T0_MS + 10 + session, 6.0 + session) == [6.0 + session]
        if dies:
            take(sparkplug, line.ndeath(T0_MS))
            assert sparkplug.status()["nodes_online"] == 0
    counters = sparkplug.counters
    assert (counters.seq_gaps_total, counters.duplicates_total) == (0, 0)


def test_a_session_that_is_delivered_again_is_skipped(sparkplug: Sparkplug) -> None:
    line = node()
    sent = [*line.births(T0_MS), line.data("press", T0_MS + 1, {"Sensors/A": 5.0})]
    take(sparkplug, *sent)
    assert take(sparkplug, *sent, is_dup=True) == []
    assert sparkplug.counters.duplicates_total == 3
    assert value_of(line, sparkplug, T0_MS + 2, 6.0) == [6.0]


def test_a_death_and_the_birth_after_it_that_are_delivered_again_leave_the_node_online(
    sparkplug: Sparkplug,
) -> None:
    line = node()
    take(sparkplug, *line.births(T0_MS))
    sent = [line.ndeath(T0_MS), *line.births(T0_MS)]  # the number never moves
    take(sparkplug, *sent)
    take(sparkplug, *sent, is_dup=True)
    assert sparkplug.status()["nodes_online"] == 1
    assert value_of(line, sparkplug, T0_MS + 2, 6.0) == [6.0]


@pytest.mark.parametrize(
    ("birth", "dies_with", "is_online", "is_asked"),
    [
        (3, 3, False, False),
        (3, 2, True, False),  # a late will
        (0, 255, True, False),
        (3, 4, False, False),  # pysparkplug counts on before a clean disconnect
        (255, 0, False, False),
        (3, None, False, True),
        (None, 3, False, True),
    ],
)
def test_which_deaths_end_the_session(
    sparkplug: Sparkplug, birth: int | None, dies_with: int | None, is_online: bool, is_asked: bool
) -> None:
    line = node()
    line.bdseq = birth or 0
    nbirth, dbirth = line.births(T0_MS)
    if birth is None:
        nbirth = (nbirth[0], encode_sparkplug(T0_MS, [], 0))
    take(sparkplug, nbirth, dbirth, death(dies_with))
    assert sparkplug.status()["nodes_online"] == int(is_online)
    assert bool(rebirths(sparkplug)) is is_asked
    assert sparkplug.counters.stale_deaths_total == int(is_online)


def test_a_node_that_counts_on_before_its_death_misses_no_session(sparkplug: Sparkplug) -> None:
    for number in (0, 2, 4):  # pysparkplug: birth 0, death 1, birth 2, death 3, ...
        line = node()
        line.bdseq = number
        take(sparkplug, *line.births(T0_MS + number), death(number + 1))
    assert sparkplug.counters.bdseq_gaps_total == sparkplug.counters.unsure_deaths_total == 0


def test_a_death_with_an_empty_body_takes_the_node_offline_and_asks(sparkplug: Sparkplug) -> None:
    take(sparkplug, *node().births(T0_MS), ("spBv1.0/plant/NDEATH/line", b""))
    assert sparkplug.status()["nodes_online"] == 0
    assert rebirths(sparkplug)


def test_a_late_will_of_a_node_whose_number_never_moves_heals(sparkplug: Sparkplug) -> None:
    line = node()
    take(sparkplug, *line.births(T0_MS), line.ndeath(T0_MS))
    assert not rebirths(sparkplug), "the first death is sure"
    take(sparkplug, *line.births(T0_MS + 1), line.ndeath(T0_MS))
    assert sparkplug.counters.unsure_deaths_total == 1
    assert rebirths(sparkplug) == ["spBv1.0/plant/NCMD/line"]
    take(sparkplug, *line.births(T0_MS + 2))
    assert sparkplug.status()["devices_online"] == 1


def test_an_overtaken_message_is_no_loss_of_256(sparkplug: Sparkplug) -> None:
    line = node()
    take(sparkplug, *line.births(T0_MS))
    overtaken = line.data("press", T0_MS + 1, {"Sensors/B": 7.0})
    whole = line.data("press", T0_MS + 2, {"Sensors/A": 5.0, "Sensors/B": 8.0})
    assert [r[3] for r in take(sparkplug, whole)] == [{"a": 5.0, "b": 8.0}]
    assert [r[3] for r in take(sparkplug, overtaken)] == [{"a": 1.0, "b": 7.0}]
    counters = sparkplug.counters
    assert (counters.seq_gaps_total, counters.lost_messages_total) == (1, 1)
    assert counters.overtaken_total == 1
    assert not rebirths(sparkplug), "nothing is missing any more"
    (after,) = take(sparkplug, line.data("press", T0_MS + 3, {"Sensors/A": 6.0}))
    assert after[3] == {"a": 6.0, "b": 8.0}
    assert counters.seq_gaps_total == 1


def test_values_from_before_a_gap_return_when_its_last_message_has_come(
    sparkplug: Sparkplug,
) -> None:
    line = node()
    take(sparkplug, *line.births(T0_MS))
    late = [line.data("press", T0_MS + n, {"Sensors/A": float(n)}) for n in (1, 2)]
    partial = line.data("press", T0_MS + 3, {"Sensors/A": 3.0})
    assert refusal(sparkplug, partial)[0] is RefusalReason.no_birth
    assert [r[3] for r in take(sparkplug, *late)] == [{"a": 1.0, "b": 2.0}, {"a": 2.0, "b": 2.0}]
    (after,) = take(sparkplug, line.data("press", T0_MS + 4, {"Sensors/B": 9.0}))
    assert after[3] == {"a": 3.0, "b": 9.0}


def test_a_sequence_that_begins_again_without_a_birth_is_a_gap_of_unknown_length(
    sparkplug: Sparkplug,
) -> None:
    line = node()
    take(sparkplug, *line.births(T0_MS))
    for n in range(4):
        value_of(line, sparkplug, T0_MS + n, 1.0 + n)
    line.seq = 1
    refusal(sparkplug, line.data("press", T0_MS + 9, {"Sensors/A": 5.0}))
    assert sparkplug.counters.lost_messages_total == 0
    assert sparkplug.counters.seq_gaps_total == 1
    assert rebirths(sparkplug)


def test_a_node_that_does_not_count_loses_nothing(sparkplug: Sparkplug) -> None:
    line = node()
    take(sparkplug, *line.births(T0_MS))
    for n in range(5):
        line.seq = 1
        assert value_of(line, sparkplug, T0_MS + n, float(n)) == [float(n)]
    assert sparkplug.counters.seq_gaps_total <= 1


def test_the_tables_hold_for_every_number() -> None:
    for birth in range(256):
        assert sum(ends_session(birth, death) for death in range(256)) == 129
    for last in range(256):
        assert not step_of(last, (last + 1) % 256, ()).is_gap
        lost = [len(step_of(last, (last + ahead) % 256, ()).missing) for ahead in range(256)]
        assert lost == [0, 0, *range(1, 239), *[0] * 16]
