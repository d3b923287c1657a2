"""A gateway follows its centre: from a release to the champion, and back from a bad student."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from deploy.rollout.release import Policy
from deploy.rollout.report import encode_note
from deploy.updates.fetch import FetchFailed
from deploy.updates.memory import RolloutMemory
from models.dummy import write_dummy
from models.registry import Registry
from models.rulings import Ruling, add_ruling

pytest.importorskip("onnx", reason="needs the extra [training]; make test installs it")
from tests.fakes.following import NAME, PLAN, MadeUpCentre, MadeUpGateway, away, make_student


@pytest.fixture
def centre() -> MadeUpCentre:
    return MadeUpCentre()


@pytest.fixture
def gateway(tmp_path: Path, centre: MadeUpCentre) -> MadeUpGateway:
    return MadeUpGateway(tmp_path, centre)


def test_good_student_goes_all_the_way(gateway: MadeUpGateway, centre: MadeUpCentre) -> None:
    centre.release(7, make_student(gateway.folder, 2))
    gateway.until_phase("shadow")
    gateway.until(lambda: gateway.contests.status(NAME) is not None)
    gateway.score(99)
    gateway.tick(90)
    assert (gateway.phase, gateway.version) == ("shadow", 1), "too few windows"
    gateway.score(1)
    gateway.tick(2)
    assert (gateway.phase, gateway.version, gateway.pointer) == ("probation", 2, 2)
    assert gateway.registry.history(NAME)[-1].who == "release 7"
    gateway.tick(590)
    gateway.score(40)
    assert gateway.phase == "probation"
    gateway.until_phase("champion")
    assert gateway.progress.evidence.windows == 140
    assert gateway.contests.status(NAME) is None, "nothing watches any more"
    gateway.tick(300)
    assert (gateway.phase, gateway.version) == ("champion", 2)
    assert centre.fetches == 1


def test_student_unhealthy_in_shadow_never_scores(
    gateway: MadeUpGateway, centre: MadeUpCentre
) -> None:
    centre.release(7, make_student(gateway.folder, 2, "shifted"))
    gateway.until_phase("shadow")
    gateway.until(lambda: gateway.contests.status(NAME) is not None)
    gateway.score(120)
    gateway.tick()
    assert (gateway.phase, gateway.version, gateway.pointer) == ("failed", 1, 1)
    assert gateway.progress.reason
    gateway.tick(200)
    gateway.start()
    gateway.tick(200)
    assert centre.fetches == 1, "it is not tried again"
    centre.release(8, make_student(gateway.folder, 3))
    gateway.take_over()
    assert gateway.version == 3


def test_failure_on_probation_goes_back_within_the_batch(
    gateway: MadeUpGateway, centre: MadeUpCentre
) -> None:
    centre.release(7, make_student(gateway.folder, 2, "nan"))
    gateway.take_over()
    scored = gateway.score(40, trapped=True)
    assert not scored.unscored
    assert gateway.version == 1, "at once, before the agent has looked"
    gateway.tick()
    assert (gateway.phase, gateway.pointer) == ("failed", 1)
    assert gateway.registry.history(NAME)[-1].who.startswith("release 7: ")
    gateway.tick(100)
    gateway.start()
    gateway.tick(100)
    assert (gateway.phase, gateway.version, gateway.pointer) == ("failed", 1, 1)


def test_same_student_is_tried_again_in_a_later_release(
    gateway: MadeUpGateway, centre: MadeUpCentre
) -> None:
    bad = make_student(gateway.folder, 2, "nan")
    centre.release(7, bad)
    gateway.take_over()
    gateway.score(40, trapped=True)
    gateway.until_phase("failed")
    centre.release(8, bad)
    gateway.take_over()
    assert gateway.version == 2


def test_student_that_cannot_be_loaded_fails_at_once(
    gateway: MadeUpGateway, centre: MadeUpCentre
) -> None:
    from models.errors import SelfTestFailed

    def load(_artifact: object) -> object:
        raise SelfTestFailed("its scores are not repeatable")

    gateway.load = load  # type: ignore[assignment]
    centre.release(7, make_student(gateway.folder, 2))
    gateway.until_phase("failed")
    assert "not repeatable" in gateway.progress.reason
    assert gateway.version == 1


def test_student_for_other_windows_fails(gateway: MadeUpGateway, centre: MadeUpCentre) -> None:
    other = write_dummy(gateway.folder / "other", "activity", name=NAME, version=2)
    centre.release(7, other)
    gateway.until_phase("failed")
    assert gateway.progress.reason
    assert gateway.pointer == 1


def test_stream_of_another_student_is_refused_until_it_is_free(
    gateway: MadeUpGateway, centre: MadeUpCentre
) -> None:
    rival = write_dummy(gateway.folder / "rival", "rul", name="rival", version=1, seed=3)
    centre.release(7, rival)
    gateway.until(lambda: "scores the stream" in _reason(gateway, "rival"))
    progress = gateway.memory.progress("rival")
    assert progress is not None
    assert progress.phase == "held"
    assert "kpstream models retire dummy-rul" in progress.reason
    assert gateway.registry.read_stable("rival") is None
    gateway.registry.retire(NAME)
    gateway.start()
    gateway.until(lambda: gateway.registry.read_stable("rival") is not None)


def _reason(gateway: MadeUpGateway, name: str) -> str:
    progress = gateway.memory.progress(name)
    return "" if progress is None else progress.reason


def test_number_of_another_student_holds_this_gateway(
    gateway: MadeUpGateway, centre: MadeUpCentre
) -> None:
    own = make_student(gateway.folder, 2, "constant")
    gateway.registry.publish(own.path)
    centre.release(7, make_student(gateway.folder, 2))
    gateway.until_phase("held")
    assert "another content" in gateway.progress.reason
    assert gateway.registry.read(NAME, 2).digest == own.digest


# -- hold, pin, window, states of the release ----------------------------------------------------


def test_window_delays_the_takeover_only(tmp_path: Path, centre: MadeUpCentre) -> None:
    gateway = MadeUpGateway(tmp_path, centre, window="00:10-00:20")
    centre.release(7, make_student(tmp_path, 2))
    gateway.until_phase("shadow")
    gateway.until(lambda: gateway.contests.status(NAME) is not None)
    gateway.score(120)
    gateway.tick(120)
    assert (gateway.phase, gateway.version) == ("shadow", 1)
    assert "00:10-00:20" in gateway.progress.reason
    gateway.until(lambda: gateway.now_s % 86_400 >= 600, seconds=700)
    gateway.tick(2)
    assert (gateway.phase, gateway.version) == ("probation", 2)


def test_policies_of_the_centre_and_own_settings(tmp_path: Path, centre: MadeUpCentre) -> None:
    gateway = MadeUpGateway(tmp_path, centre, group="north")
    centre.set_policies([Policy(group="north", hold=True)])
    centre.release(7, make_student(tmp_path, 2))
    gateway.until_phase("held")
    assert centre.fetches == 0, "nothing new is taken"
    centre.set_policies([Policy(gateway="gw-1", pin={NAME: 1})])
    gateway.until(lambda: "pinned to v1" in gateway.progress.reason)
    centre.set_policies([])
    gateway.until_phase("shadow")


@pytest.mark.parametrize(("what", "version"), [("hold", None), ("pin", 1)])
def test_a_ruling_on_this_gateway_holds_a_release(
    gateway: MadeUpGateway, centre: MadeUpCentre, what: str, version: int | None
) -> None:
    folder = gateway.registry.folder(NAME)
    add_ruling(folder, Ruling(ts_ms=1, who="eva", what=what, version=version, reason="audit"))
    centre.release(7, make_student(gateway.folder, 2))
    gateway.until_phase("held")
    assert "by eva: audit" in gateway.progress.reason
    assert centre.fetches == 0
    add_ruling(folder, Ruling(ts_ms=2, who="eva", what="unhold"))
    add_ruling(folder, Ruling(ts_ms=2, who="eva", what="unpin"))
    gateway.until_phase("shadow")


def test_release_for_another_group_concerns_nobody_here(
    gateway: MadeUpGateway, centre: MadeUpCentre
) -> None:
    plan = PLAN.model_copy(update={"groups": ("north",)})
    centre.release(7, make_student(gateway.folder, 2), plan)
    gateway.until(lambda: centre.looks > 0)
    gateway.tick(3)
    assert gateway.progress is None


def test_members_of_an_aborted_release_go_back(
    gateway: MadeUpGateway, centre: MadeUpCentre
) -> None:
    centre.release(7, make_student(gateway.folder, 2))
    gateway.take_over()
    gateway.tick(5)
    centre.change(state="aborted", reason="wrong labels")
    gateway.until_phase("held")
    gateway.tick(2)
    assert (gateway.version, gateway.pointer) == (1, 1)
    assert "wrong labels" in gateway.progress.reason
    assert gateway.registry.history(NAME)[-1].who == "release 7 aborted"
    gateway.start()
    gateway.tick(30)
    assert (gateway.phase, gateway.version) == ("held", 1)


def test_newer_release_takes_the_place_of_one_in_shadow(
    gateway: MadeUpGateway, centre: MadeUpCentre
) -> None:
    centre.release(7, make_student(gateway.folder, 2))
    gateway.until_phase("shadow")
    gateway.until(lambda: gateway.contests.status(NAME) is not None)
    centre.release(8, make_student(gateway.folder, 3))
    gateway.until(lambda: gateway.progress is not None and gateway.progress.release == 8)
    gateway.take_over()
    assert gateway.version == 3
    assert [move.version for move in gateway.registry.history(NAME)] == [1, 3]


def test_newer_release_waits_for_the_end_of_probation(
    gateway: MadeUpGateway, centre: MadeUpCentre
) -> None:
    centre.release(7, make_student(gateway.folder, 2))
    gateway.take_over()
    centre.release(8, make_student(gateway.folder, 3))
    gateway.tick(200)
    assert (gateway.progress.release, gateway.phase) == (7, "probation")
    gateway.until(lambda: gateway.progress.release == 8, seconds=700)
    gateway.take_over()
    assert gateway.version == 3
    assert gateway.progress.former.version == 2


def test_pointer_that_a_person_moved_stays(gateway: MadeUpGateway, centre: MadeUpCentre) -> None:
    centre.release(7, make_student(gateway.folder, 2))
    gateway.take_over()
    gateway.registry.set_stable(NAME, 1, "an engineer")
    gateway.tick(5)
    assert (gateway.phase, gateway.version, gateway.pointer) == ("held", 1, 1)
    gateway.tick(700)
    gateway.start()
    gateway.tick(60)
    assert (gateway.phase, gateway.version) == ("held", 1)
    centre.release(8, make_student(gateway.folder, 3))
    gateway.take_over()
    assert gateway.version == 3


# -- the centre is away, expired, or this gateway was --------------------------------------------


def test_student_that_a_person_retired_stays_away_until_the_next_release(
    gateway: MadeUpGateway, centre: MadeUpCentre
) -> None:
    centre.release(7, make_student(gateway.folder, 2))
    gateway.until_phase("shadow")
    gateway.registry.retire(NAME)
    gateway.until_phase("held")
    assert gateway.progress.reason == f"{NAME} was retired on this gateway; the next release counts"
    gateway.stop()
    gateway.start()
    gateway.tick(100)
    assert (gateway.phase, gateway.registry.names()) == ("held", [])
    centre.release(
        8,
        make_student(gateway.folder, 3),
        created_s=1 + (gateway.registry.retired_ms(NAME) or 0) // 1000,
    )
    gateway.until_phase("probation")


def test_centre_that_is_away_changes_nothing_that_runs(
    gateway: MadeUpGateway, centre: MadeUpCentre
) -> None:
    centre.problem = away()
    gateway.tick(200)
    assert gateway.agent.plan.state == "away"
    assert gateway.version == 1
    assert 3 < centre.looks < 12, "the pauses grow"


def test_log_tells_once_that_the_centre_is_not_followed(
    gateway: MadeUpGateway, centre: MadeUpCentre, caplog: pytest.LogCaptureFixture
) -> None:
    def told() -> list[str]:
        return [each for each in caplog.messages if "the centre is" in each]

    gateway.tick(40)
    assert told() == []
    centre.problem = FetchFailed("the metadata expired", "expired")
    gateway.tick(200)
    assert told() == ["the centre is not followed: the metadata expired"]
    centre.problem = None
    gateway.tick(200)
    assert told()[1:] == ["the centre is followed again"]


def test_probation_ends_without_the_centre(gateway: MadeUpGateway, centre: MadeUpCentre) -> None:
    centre.release(7, make_student(gateway.folder, 2))
    gateway.take_over()
    centre.problem = away()
    gateway.stop()
    gateway.start()
    assert gateway.version == 2
    gateway.until(lambda: gateway.contests.status(NAME) is not None)
    gateway.score(40)
    gateway.until(lambda: gateway.phase == "champion", seconds=700)


def test_expired_centre_starts_nothing_new(gateway: MadeUpGateway, centre: MadeUpCentre) -> None:
    centre.release(7, make_student(gateway.folder, 2))
    gateway.until_phase("shadow")
    gateway.until(lambda: gateway.contests.status(NAME) is not None)
    centre.problem = FetchFailed("the metadata expired", "expired")
    gateway.until(lambda: gateway.agent.plan.state == "expired")
    gateway.score(120)
    gateway.tick(60)
    assert (gateway.phase, gateway.version) == ("shadow", 1)
    assert "expired" in gateway.progress.reason
    centre.problem = None
    gateway.until_phase("probation")


def test_gateway_that_was_away_for_a_month_takes_the_newest(
    gateway: MadeUpGateway, centre: MadeUpCentre
) -> None:
    centre.release(7, make_student(gateway.folder, 2))
    gateway.until_phase("shadow")
    gateway.stop()
    gateway.now_s += 30 * 86_400
    for number, version in ((8, 3), (9, 4), (10, 5)):
        centre.release(number, make_student(gateway.folder, version), state="complete")
    gateway.start()
    gateway.until(lambda: gateway.progress.release == 10)
    gateway.take_over()
    assert gateway.version == 5
    assert gateway.registry.list_versions(NAME) == [1, 2, 5]


def test_note_causes_one_early_look_however_often_it_comes(
    gateway: MadeUpGateway, centre: MadeUpCentre
) -> None:
    gateway.until(lambda: centre.looks == 1)
    gateway.tick(12)
    began_ms = gateway.steady_ms
    for n in range(1000):
        gateway.agent.note(b"%d" % n)
    gateway.until(lambda: centre.looks == 2, seconds=5)
    while gateway.steady_ms < began_ms + 9000:
        gateway.agent.note(b"again")
        gateway.tick()
    gateway.tick(6)
    assert centre.looks == 2
    gateway.agent.note(encode_note(centre.index.made_s))
    gateway.tick(4)
    assert centre.looks == 2, "it knows this index"
    gateway.agent.note(b"another one")
    gateway.until(lambda: centre.looks == 3, seconds=5)


# -- death at any moment -------------------------------------------------------------------------


def test_second_unexpected_start_on_probation_goes_back_before_loading(
    gateway: MadeUpGateway, centre: MadeUpCentre
) -> None:
    centre.release(7, make_student(gateway.folder, 2))
    gateway.take_over()
    gateway.start()
    assert (gateway.version, gateway.phase) == (2, "probation"), "once may be a power cut"
    gateway.tick(3)
    gateway.loaded.clear()
    gateway.start()
    assert (gateway.version, gateway.phase, gateway.pointer) == (1, "failed", 1)
    assert 2 not in gateway.loaded
    assert "without a clean stop" in gateway.progress.reason
    gateway.start()
    gateway.tick(30)
    assert gateway.version == 1


def test_clean_stops_on_probation_do_not_count(
    gateway: MadeUpGateway, centre: MadeUpCentre
) -> None:
    centre.release(7, make_student(gateway.folder, 2))
    gateway.take_over()
    for _ in range(5):
        gateway.tick(30)
        gateway.stop()
        gateway.start()
        assert gateway.version == 2
    gateway.until(lambda: gateway.phase == "champion", seconds=480)


def test_student_that_crashes_the_gateway_in_shadow_is_not_tried_for_ever(
    gateway: MadeUpGateway, centre: MadeUpCentre
) -> None:
    centre.release(7, make_student(gateway.folder, 2))
    for _ in range(3):
        gateway.until_phase("shadow")
        gateway.start()
    assert (gateway.version, gateway.phase, gateway.pointer) == (1, "failed", 1)
    assert gateway.progress.reason == "the gateway ended 3 times in shadow without a clean stop"
    gateway.start()
    gateway.tick(100)
    assert gateway.phase == "failed"
    centre.release(8, make_student(gateway.folder, 3))
    gateway.take_over()
    assert gateway.version == 3


def test_clean_stops_and_a_power_cut_in_shadow_end_nothing(
    gateway: MadeUpGateway, centre: MadeUpCentre
) -> None:
    centre.release(7, make_student(gateway.folder, 2))
    for _ in range(5):
        gateway.until_phase("shadow")
        gateway.stop()
        gateway.start()
    gateway.until_phase("shadow")
    gateway.start()
    gateway.take_over()
    gateway.start()
    assert (gateway.version, gateway.phase) == (2, "probation"), "a takeover begins anew"


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.mark.parametrize(
    ("fault", "place"), [*(("", n) for n in range(1, 13)), *(("nan", n) for n in range(1, 17))]
)
def test_killed_at_any_write_it_goes_on_rightly(
    tmp_path: Path, centre: MadeUpCentre, monkeypatch: pytest.MonkeyPatch, place: int, fault: str
) -> None:
    """Kill before the n-th rename of a way from the release to the champion, or back."""
    gateway = MadeUpGateway(tmp_path, centre)
    centre.release(7, make_student(tmp_path, 2, fault))
    kills = _kill_at_rename(monkeypatch, place)
    for _ in range(10):
        try:
            _whole_way(gateway, fault)
            break
        except Killed:
            assert gateway.version in (1, 2)
            gateway.start()
    assert gateway.phase == ("failed" if fault else "champion")
    assert gateway.version == gateway.pointer == (1 if fault else 2)
    assert kills.count == 1, "the place is on the way"
    for version in gateway.registry.list_versions(NAME):
        gateway.registry.read(NAME, version)


class _Kills:
    def __init__(self, place: int) -> None:
        self.place, self.seen, self.count = place, 0, 0


def _kill_at_rename(monkeypatch: pytest.MonkeyPatch, place: int) -> _Kills:
    kills, rename, replace = _Kills(place), Path.rename, Path.replace

    def counted(self: Path) -> None:
        kills.seen += 1
        if kills.seen == kills.place:
            kills.count += 1
            raise Killed

    def killing_rename(self: Path, target: os.PathLike[str]) -> Path:
        counted(self)
        return rename(self, target)

    def killing_replace(self: Path, target: os.PathLike[str]) -> Path:
        counted(self)
        return replace(self, target)

    monkeypatch.setattr(Path, "rename", killing_rename)
    monkeypatch.setattr(Path, "replace", killing_replace)
    return kills


def _whole_way(gateway: MadeUpGateway, fault: str) -> None:
    for _ in range(60):
        if gateway.phase in ("champion", "failed"):
            gateway.tick(10)
            return
        gateway.until(lambda: gateway.phase in ("shadow", "probation", "failed"))
        if gateway.phase == "shadow":
            gateway.until(lambda: gateway.contests.status(NAME) is not None, seconds=50)
            gateway.score(120)
            gateway.tick(61)
        elif gateway.phase == "probation":
            gateway.until(lambda: gateway.contests.status(NAME) is not None, seconds=50)
            gateway.score(40, trapped=bool(fault))
            gateway.tick(300)


@pytest.mark.parametrize("phase", ["shadow", "probation", "champion", "failed"])
@pytest.mark.parametrize("damage", ["gone", "torn"])
def test_lost_memory_is_not_dangerous(
    tmp_path: Path, centre: MadeUpCentre, phase: str, damage: str
) -> None:
    gateway = MadeUpGateway(tmp_path, centre)
    centre.release(7, make_student(tmp_path, 2, "nan" if phase == "failed" else ""))
    if phase == "shadow":
        gateway.until_phase("shadow")
    else:
        gateway.take_over()
        gateway.score(40, trapped=phase == "failed")
        gateway.until(lambda: gateway.phase == phase, seconds=700)
    gateway.stop()
    file = tmp_path / "rollout.json"
    file.unlink() if damage == "gone" else file.write_bytes(file.read_bytes()[:-9])
    gateway.start()
    before = gateway.version
    gateway.until(lambda: gateway.phase != "")
    gateway.tick(5)
    expected = {"champion": "probation"}.get(phase, phase)
    gateway.until(lambda: gateway.phase == expected)
    assert gateway.version == before == (2 if phase in ("probation", "champion") else 1)
    if expected == "probation":
        assert gateway.progress.former.version == 1, "the history knows the way back"


def test_full_disk_lets_nothing_take_over_and_everything_go_back(
    gateway: MadeUpGateway, centre: MadeUpCentre, monkeypatch: pytest.MonkeyPatch
) -> None:
    centre.release(7, make_student(gateway.folder, 2, "nan"))
    gateway.until_phase("shadow")
    gateway.until(lambda: gateway.contests.status(NAME) is not None)
    gateway.score(120)
    blocked = gateway.folder / "rollout.json.new"
    blocked.mkdir()
    gateway.tick(90)
    assert (gateway.version, gateway.pointer) == (1, 1)
    assert "cannot be written" in gateway.memory.problem
    blocked.rmdir()
    gateway.until(lambda: gateway.version == 2)
    blocked.mkdir()
    gateway.score(40, trapped=True)
    gateway.tick(2)
    assert (gateway.version, gateway.pointer) == (1, 1)
    blocked.rmdir()
    gateway.start()
    gateway.tick(30)
    assert (gateway.phase, gateway.version) == ("failed", 1)


def test_error_of_one_student_does_not_stop_the_others(
    gateway: MadeUpGateway, centre: MadeUpCentre, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Registry):
        def history(self, name: str):  # type: ignore[no-untyped-def]
            if name == "aaa":
                raise ZeroDivisionError
            return super().history(name)

    strange = write_dummy(gateway.folder / "aaa", "activity", name="aaa")
    gateway.registry.publish(strange.path)
    gateway.registry = Broken(gateway.registry.root)
    gateway.start()
    (gateway.registry.root / "aaa" / "stable.json").write_text("{}")
    centre.release(6, strange)
    centre.release(7, make_student(gateway.folder, 2))
    with caplog.at_level(logging.ERROR):
        gateway.take_over()
    assert "please report this" in caplog.text


# -- the disk ------------------------------------------------------------------------------------


def test_old_versions_are_deleted_and_needed_ones_stay(
    gateway: MadeUpGateway, centre: MadeUpCentre
) -> None:
    plan = PLAN.model_copy(update={"shadow_seconds": 1, "probation_seconds": 1})
    own = make_student(gateway.folder, 90)
    gateway.registry.publish(own.path)
    for number in range(2, 18):
        fault = "shifted" if number < 8 else ""
        centre.release(number, make_student(gateway.folder, number, fault), plan)
        gateway.until(
            lambda n=number: (
                gateway.progress is not None  # type: ignore[misc]
                and gateway.progress.release == n
                and gateway.phase == "shadow"
            )
        )
        gateway.until(lambda: gateway.contests.status(NAME) is not None)
        gateway.score(120)
        gateway.until(lambda: gateway.phase in ("champion", "failed"))
    kept = gateway.registry.list_versions(NAME)
    assert kept == [1, *range(8, 18), 90]
    assert list(RolloutMemory(gateway.folder / "rollout.json").added(NAME)) == list(range(8, 18))


def test_versions_that_never_take_over_are_deleted_too(
    gateway: MadeUpGateway, centre: MadeUpCentre
) -> None:
    for number in range(2, 9):
        centre.release(number, make_student(gateway.folder, number))
        gateway.until(
            lambda n=number: (
                gateway.progress is not None  # type: ignore[misc]
                and gateway.progress.release == n
                and gateway.phase == "shadow"
            )
        )
    gateway.tick(2)
    assert gateway.registry.list_versions(NAME) == [1, 6, 7, 8]
