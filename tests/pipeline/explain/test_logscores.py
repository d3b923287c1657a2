"""Which score is meant on a site, whose scores are in the log only."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from ingest.topics import READINGS, SCORES, device_key, partition_of
from pipeline.errors import NoScore
from pipeline.explain.explainer import Explainer
from pipeline.explain.logscan import LogFile
from pipeline.explain.logscores import find_logged_score, find_logged_streams
from pipeline.explain.scores import find_score
from pipeline.settings import PipelineSettings
from tests.fakes.scores import encode_records, records_of
from tests.pipeline.explain.plant import PARTITIONS, STEP, T0, WHERE, Plant, line, tick


class Logged:
    """The log of a plant whose scores were appended to it, as the workers of a site do."""

    def __init__(self, plant: Plant) -> None:
        self._readings = LogFile(plant.folder / "log.db")
        self._scores: dict[int, list[bytes]] = {number: [] for number in range(PARTITIONS)}
        for _, scored in plant.scored:
            for record in records_of(scored):
                place = partition_of(device_key(record["site"], record["device"]), PARTITIONS)
                self._scores[place].append(encode_records([record]))

    def partitions(self, topic: str) -> int:
        return PARTITIONS if topic == SCORES else self._readings.partitions(topic)

    def read_back(self, topic: str, partition: int) -> Iterator[bytes | None]:
        if topic == READINGS:
            return self._readings.read_back(topic, partition)
        return iter(self._scores[partition][::-1])


@pytest.fixture
def scored(plant: Plant) -> Plant:
    for number in (*range(6), *range(1000, 1006)):
        plant.send(line([number]))
    plant.send(line([0, 1, 2, 3], device="press-2"), tick(2000))
    plant.store()
    return plant


@pytest.mark.parametrize("at_ms", [None, T0 + STEP * 4, T0 + STEP * 5 + 900, T0 + STEP * 1004])
def test_the_score_is_that_of_the_results_file(scored: Plant, at_ms: int | None) -> None:
    assert find_logged_score(Logged(scored), WHERE, at_ms) == find_score(
        scored.results, WHERE, at_ms
    )


def test_a_time_in_a_silence_has_no_score_but_neighbours(scored: Plant) -> None:
    at_ms = T0 + STEP * 500
    with pytest.raises(NoScore) as expected:
        find_score(scored.results, WHERE, at_ms)
    with pytest.raises(NoScore) as caught:
        find_logged_score(Logged(scored), WHERE, at_ms)
    assert str(caught.value) == str(expected.value)


def test_streams_of_a_device_and_a_device_without_scores(scored: Plant) -> None:
    log = Logged(scored)
    assert find_logged_streams(log, "plant", "press-1") == [WHERE]
    with pytest.raises(NoScore, match="no score of plant/press-9"):
        find_logged_streams(log, "plant", "press-9")
    with pytest.raises(NoScore, match="no score of plant/press-9/engine"):
        find_logged_score(log, WHERE._replace(device="press-9"))


def test_an_explanation_from_the_log_is_that_of_the_results_file(scored: Plant) -> None:
    log = Logged(scored)
    registry = scored.folder / "registry"
    explainer = Explainer(partial(find_logged_score, log), log, registry, PipelineSettings())
    found = explainer.explain(WHERE, None, 2**40)
    wanted = scored.explainer().explain(WHERE, None, 2**40)
    assert found.report.text == wanted.report.text
    assert found.is_same_score
