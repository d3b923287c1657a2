"""The decision about a release: a table of cases, and what holds in all of them."""

from __future__ import annotations

import random

import pytest

from deploy.rollout.controller import Move, members_of, move_all, next_move
from deploy.rollout.inventory import Known
from deploy.rollout.release import WHOLE, ReleaseIndex, cutoff_of, is_member
from tests.deploy.rollout.fleets import FORMER, NOW_S, known, release, runs, software

A, B, C = "gw-a", "gw-b", "gw-c"

# What happens, standing of the gateways (or a gateway), changes of the release, action, words
CASES = [
    ("all healthy", ["healthy", "healthy"], {}, "next", "healthy"),
    ("champions are healthy without new windows", ["champion"], {}, "next", ""),
    ("the last step", ["healthy"], {"step": 2}, "complete", ""),
    ("before its time", ["healthy"], {"step_since_s": NOW_S - 3599}, "wait", "22:13:21 UTC"),
    ("a clock that went back", ["healthy"], {"step_since_s": NOW_S + 9}, "wait", "23:13:29 UTC"),
    ("in shadow", ["healthy", "shadow"], {}, "wait", "gw-b (shadow)"),
    ("not seen yet", ["healthy", "unaware"], {}, "wait", "has not seen release 5"),
    ("nobody knows of anybody", [], {}, "wait", "no known gateway"),
    ("held", ["healthy", "held"], {}, "next", ""),
    ("all held", ["held", "held"], {}, "wait", "all members are held"),
    ("one failed", ["healthy", "failed"], {}, "pause", "gw-b: 12 of 200 scores are not finite"),
    ("failed before its time", ["failed"], {"step_since_s": NOW_S}, "pause", "1 gateway failed"),
    ("failed after the last step", ["failed"], {"state": "complete"}, "pause", "gw-a"),
    ("complete", ["healthy"], {"state": "complete"}, "stay", "complete"),
    ("paused", ["healthy"], {"state": "paused", "reason": "by Ada"}, "stay", "by Ada"),
    ("aborted", ["healthy"], {"state": "aborted", "reason": "by Ada"}, "stay", "by Ada"),
    ("aborted and failed", ["failed"], {"state": "aborted"}, "stay", "aborted"),
]


@pytest.mark.parametrize(
    ("standings", "changes", "action", "words"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_cases(standings, changes, action, words):
    fleet = [known(name, standing) for name, standing in zip((A, B, C), standings, strict=False)]
    move = next_move(release(**changes), fleet, NOW_S)
    assert move.action == action, move.reason
    assert words in move.reason


def _plan(**changes: object) -> dict[str, object]:
    return release().plan.model_dump() | changes


def test_a_step_may_end_at_the_latest_time_that_a_release_can_have():
    last = release(step_since_s=2**40, created_s=2**40)
    assert "the step lasts until" in next_move(last, [known(A)], NOW_S).reason


def test_failures_up_to_the_limit_are_left_out():
    plan = _plan(max_failed=1)
    assert next_move(release(plan=plan), [known(A), known(B, "failed")], NOW_S).action == "next"
    alone = next_move(release(plan=plan), [known(B, "failed")], NOW_S)
    assert (alone.action, alone.reason) == ("pause", "it failed on every member of the step: gw-b")
    two = [known(A, "failed"), known(B, "failed"), known(C)]
    assert next_move(release(plan=plan), two, NOW_S).action == "pause"


def test_a_gateway_on_the_hold_list_fails_nothing():
    plan = _plan(hold=[B])
    assert next_move(release(plan=plan), [known(A), known(B, "failed")], NOW_S).action == "next"


def test_silent_gateways_are_left_out_and_named_while_half_of_the_members_answer():
    silent = known(B, age_s=3601)
    move = next_move(release(), [known(A), silent], NOW_S)
    assert (move.action, move.reason) == ("next", "left out, because silent: gw-b")
    most = next_move(release(), [known(A), silent, Known(C)], NOW_S)
    assert most.action == "wait"
    assert "more than half of the members are silent: gw-b, gw-c" in most.reason
    assert next_move(release(), [known(A), known(B, age_s=3600)], NOW_S).reason.startswith("all")


def test_a_failure_counts_however_long_ago_it_was_reported():
    assert next_move(release(), [known(A), known(B, "failed", age_s=9999)], NOW_S).action == "pause"


def test_too_few_windows_and_another_content_are_no_health():
    few = known(A, evidence={"windows": 199})
    assert "199 of 200 windows" in next_move(release(), [few], NOW_S).reason
    other = next_move(release(), [known(A, digest=FORMER)], NOW_S)
    assert (other.action, other.reason) == ("wait", "waiting for gw-a (probation)")


def test_an_earlier_release_that_failed_is_not_this_one():
    earlier = known(A, "failed", release=4)
    move = next_move(release(), [earlier], NOW_S)
    assert move.action == "wait"
    assert "has not seen release 5" in move.reason


def test_a_gateway_that_an_earlier_release_left_held_has_not_judged_this_one():
    fleet = [known(A), known(B, "held", release=4), known(C, "held", release=4, age_s=9999)]
    move = next_move(release(), fleet, NOW_S)
    assert move.action == "wait"
    assert "gw-b (it has not seen release 5" in move.reason
    assert [member.standing for member in move.members] == ["healthy", "waiting", "silent"]


def test_only_members_of_the_step_are_asked_but_every_failure_counts():
    fleet = [f"gw-{number:02}" for number in range(50)]
    cutoff = cutoff_of(5, release().plan, 0, [(name, "") for name in fleet])
    canary = release(cutoff=cutoff)
    members = {name for name in fleet if is_member(canary, name)}
    assert len(members) == 5
    gateways = [known(name, "healthy" if name in members else "unaware") for name in fleet]
    assert {member.gateway for member in members_of(canary, gateways, NOW_S)} == members
    assert next_move(canary, gateways, NOW_S).action == "next"
    outsider = next(number for number, name in enumerate(fleet) if name not in members)
    gateways[outsider] = known(fleet[outsider], "failed")
    assert next_move(canary, gateways, NOW_S).action == "pause"


def test_the_reason_of_a_pause_names_gateways_and_fits_into_a_release():
    fleet = [known(f"gw-{number:03}", "failed", reason="long " * 30) for number in range(300)]
    index, _ = move_all(_index(release()), fleet, NOW_S)
    paused = index.releases[0]
    assert paused.state == "paused"
    assert "300 gateways failed, more than 0: gw-000: long" in paused.reason
    assert "more" in paused.reason[-12:]
    type(paused).model_validate(paused.model_dump())


def test_a_release_pauses_when_people_do_not_want_its_version_any_more():
    fleet = [known("gw-1")]
    against = {"rul-fd001 v2": "rul-fd001 v2 was rejected"}
    index, moves = move_all(_index(release()), fleet, NOW_S, obstacles=against)
    (paused,) = index.releases
    assert (paused.state, paused.reason) == ("paused", "rul-fd001 v2 was rejected")
    assert moves["rul-fd001"].action == "pause"
    for state in ("paused", "aborted", "complete"):
        before = _index(release(state=state))
        assert move_all(before, fleet, NOW_S, obstacles=against)[0] is before
    before = _index(release(version=3))
    assert move_all(before, fleet, NOW_S, obstacles=against)[0].releases[0].state == "running"


def _index(*releases):
    return ReleaseIndex(made_s=NOW_S - 9, releases=releases)


def test_a_step_at_a_time_each_of_them_from_its_own_beginning():
    fleet = [known(f"gw-{number:02}", "champion") for number in range(50)]
    index = _index(release(cutoff=cutoff_of(5, release().plan, 0, _names(fleet))))
    seen = []
    for now_s in range(NOW_S, NOW_S + 3 * 3600, 60):
        fresh = [Known(each.gateway, each.report, now_s) for each in fleet]
        before, (index, _) = index, move_all(index, fresh, now_s)
        if index is not before:
            seen.append((now_s - NOW_S, index.releases[0].step, index.releases[0].state))
    assert seen == [(0, 1, "running"), (3600, 2, "running"), (7200, 2, "complete")]
    assert index.releases[0].cutoff == WHOLE


def _names(fleet):
    return [(each.gateway, each.group) for each in fleet]


def test_nothing_moves_twice_on_the_same_reports():
    fleet = [known(f"gw-{number:02}") for number in range(50)]
    index, moves = move_all(_index(release()), fleet, NOW_S)
    assert moves["rul-fd001"].action == "next"
    again, moves = move_all(index, fleet, NOW_S)
    assert again is index
    assert moves["rul-fd001"].action == "wait"


def test_fewer_known_gateways_put_no_member_out_of_the_release():
    fleet = [known(f"gw-{number:02}", "champion") for number in range(50)]
    start = release(cutoff=cutoff_of(5, release().plan, 1, _names(fleet)))
    left = [each for each in fleet if is_member(start, each.gateway)][:1]
    assert cutoff_of(5, start.plan, 1, _names(left)) < start.cutoff
    index, _ = move_all(_index(start), left, NOW_S)
    assert index.releases[0].step == 1
    assert index.releases[0].cutoff == start.cutoff


@pytest.mark.parametrize("seed", range(20))
def test_a_step_is_left_only_with_every_member_judged(seed):
    """Whatever the fleet reports: no step without time, health, quorum; no two steps at once."""
    chance = random.Random(seed)
    standings = ["healthy", "champion", "shadow", "unaware", "failed", "held"]
    for _ in range(200):
        fleet = [
            known(name, chance.choice(standings), age_s=chance.choice([5, 5, 5, 4000]))
            for name in (A, B, C)[: chance.randint(0, 3)]
        ]
        state = chance.choice(["running", "running", "paused", "aborted", "complete"])
        since_s = NOW_S - chance.choice([0, 3599, 3600])
        plan = _plan(max_failed=chance.randint(0, 2))
        start = release(
            plan=plan, state=state, step_since_s=since_s, step=chance.randint(0, 2), cutoff=WHOLE
        )
        index, moves = move_all(_index(start), fleet, NOW_S)
        end, move = index.releases[0], moves[start.name]
        _check(start, end, move)


def _check(start, end, move: Move) -> None:
    failed = move.count("failed")
    assert end.step - start.step in (0, 1)
    assert end.cutoff >= start.cutoff
    if start.state in ("paused", "aborted"):
        assert end == start
    elif failed > start.plan.max_failed:
        assert end.state == "paused"
    if move.action in ("next", "complete"):
        assert start.state == "running"
        assert start.step_since_s == NOW_S - 3600
        assert move.count("waiting") == 0
        assert move.count("healthy") >= 1
        active = len(move.members) - move.count("held")
        assert 2 * move.count("silent") <= active
        assert end.step_since_s == NOW_S or end.state == "complete"


def test_releases_of_different_students_do_not_wait_for_each_other():
    other = release(number=6, name="activity", state="paused", reason="by hand")
    fleet = [known(name) for name in (A, B)]
    index, moves = move_all(_index(other, release()), fleet, NOW_S)
    assert [each.step for each in index.releases] == [0, 1]
    assert {name: move.action for name, move in moves.items()} == {
        "activity": "stay",
        "rul-fd001": "next",
    }


# What happens, the gateways, changes of the release, action, words
SOFTWARE_CASES = [
    ("all run it", [runs(A, "2.0.0", "done"), runs(B, "2.0.0")], {}, "next", "all members"),
    ("one runs another", [runs(A, "2.0.0"), runs(B, "1.0.0")], {}, "wait", "it runs 1.0.0"),
    ("it is tried", [runs(A, "2.0.0", "trying")], {}, "wait", "gw-a (trying)"),
    ("outside its window", [runs(A, "1.0.0", "waiting", "window")], {}, "wait", "waiting: window"),
    ("it was there before", [runs(A, "2.0.0", age_s=3601)], {}, "wait", "since the step began"),
    ("failed", [runs(A, "2.0.0"), runs(B, "1.0.0", "failed", "sick")], {}, "pause", "gw-b: sick"),
    ("failed before", [runs(A, "2.0.0", "failed", number=4)], {}, "next", ""),
    ("held", [runs(A, "2.0.0"), runs(B, "1.0.0", "held")], {}, "next", ""),
    ("the last step", [runs(A, "2.0.0")], {"step": 2}, "complete", ""),
    ("aborted", [runs(A, "2.0.0")], {"state": "aborted", "reason": "by Ada"}, "stay", "by Ada"),
]


@pytest.mark.parametrize(
    ("fleet", "changes", "action", "words"),
    [case[1:] for case in SOFTWARE_CASES],
    ids=[case[0] for case in SOFTWARE_CASES],
)
def test_the_software_goes_by_the_same_rules(fleet, changes, action, words):
    move = next_move(software(**changes), fleet, NOW_S, silent_s=7200)
    assert move.action == action, move.reason
    assert words in move.reason


def test_software_and_students_move_in_one_index_each_by_itself():
    index = ReleaseIndex(made_s=0, releases=(release(),), software=software(number=6))
    moved, moves = move_all(index, [runs(A, "2.0.0")], NOW_S)
    assert {name: move.action for name, move in moves.items()} == {
        "rul-fd001": "wait",
        "software": "next",
    }
    assert moved.releases == index.releases
    assert moved.software.step == 1
    assert moved.software.step_since_s == NOW_S
