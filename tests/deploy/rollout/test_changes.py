"""Changes of the index: numbers that grow, states that follow each other, policies."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from deploy.rollout.changes import (
    abort_release,
    add_release,
    add_software,
    find_release,
    next_number,
    pause_release,
    resume_release,
    set_policy,
)
from deploy.rollout.errors import ReleaseRefused
from deploy.rollout.release import Plan, Policy, Release, ReleaseIndex, is_member
from tests.deploy.rollout.fleets import software

EMPTY = ReleaseIndex(made_s=0)
FLEET = [(f"gw-{number}", "plant" if number % 2 else "field") for number in range(40)]


def add(index: ReleaseIndex, name: str = "a", version: int = 1, **more: object) -> ReleaseIndex:
    options: dict = {"plan": Plan(), "now_s": 10, "gateways": FLEET, "digest": "0" * 64} | more
    return add_release(index, name=name, version=version, **options)


def with_state(index: ReleaseIndex, state: str) -> ReleaseIndex:
    release = index.releases[0].model_copy(update={"state": state})
    return index.model_copy(update={"releases": (release, *index.releases[1:])})


def test_a_release_begins_at_the_first_step_with_its_share() -> None:
    (release,) = add(EMPTY).releases
    assert (release.number, release.step, release.state) == (1, 0, "running")
    assert sum(is_member(release, name, group) for name, group in FLEET) == 4


def test_the_share_counts_the_groups_and_not_the_held() -> None:
    plan = Plan(groups=("plant",), hold=("gw-1", "gw-3"))
    (release,) = add(EMPTY, plan=plan).releases
    members = [name for name, group in FLEET if is_member(release, name, group)]
    assert len(members) == 1
    assert members[0] not in plan.hold


def test_numbers_grow_over_all_students() -> None:
    index = add(add(add(EMPTY, "b"), "a"), "c")
    assert [(each.name, each.number) for each in index.releases] == [("a", 2), ("b", 1), ("c", 3)]
    index = add(abort_release(index, "c", "bad"), "c", 2)
    assert find_release(index, "c").number == 4
    assert next_number(index) == 5


@pytest.mark.parametrize("state", ["running", "paused", "complete"])
def test_the_same_release_again_is_the_one_that_is_there(state: str) -> None:
    index = with_state(add(EMPTY), state)
    assert add(index, now_s=99) is index


def test_an_aborted_release_is_made_again_under_a_new_number() -> None:
    index = add(abort_release(add(EMPTY), "a", "bad"), now_s=99)
    assert (index.releases[0].number, index.releases[0].created_s) == (2, 99)


@pytest.mark.parametrize("state", ["running", "paused"])
def test_another_release_waits_for_the_end_of_the_one_before(state: str) -> None:
    index = with_state(add(EMPTY), state)
    with pytest.raises(ReleaseRefused, match="--replace"):
        add(index, version=2)
    assert add(index, version=2, replace=True).releases[0].number == 2
    assert add(with_state(index, "complete"), version=2).releases[0].number == 2


def test_pause_and_resume_keep_the_step_and_begin_its_time_again() -> None:
    paused = pause_release(add(EMPTY), "a", "too hot")
    assert paused.releases[0].reason == "too hot"
    assert pause_release(paused, "a", "another reason") is paused
    (release,) = resume_release(paused, "a", 500, max_failed=7).releases
    assert (release.state, release.reason, release.step_since_s) == ("running", "", 500)
    assert release.plan.max_failed == 7
    assert release.cutoff == paused.releases[0].cutoff


def test_a_running_release_that_resumes_keeps_its_time() -> None:
    index = add(EMPTY)
    assert resume_release(index, "a", 500) == index


@pytest.mark.parametrize("state", ["aborted", "complete"])
def test_a_release_at_its_end_neither_pauses_nor_resumes(state: str) -> None:
    index = with_state(add(EMPTY), state)
    with pytest.raises(ReleaseRefused, match=state):
        pause_release(index, "a", "")
    with pytest.raises(ReleaseRefused, match="make a new one"):
        resume_release(index, "a", 1)


@pytest.mark.parametrize(
    "change", [lambda index: pause_release(index, "x", ""), lambda index: find_release(index, "x")]
)
def test_an_unknown_student_is_named_with_the_known_ones(
    change: Callable[[ReleaseIndex], ReleaseIndex | Release],
) -> None:
    with pytest.raises(ReleaseRefused, match="x has no release; students with one: a"):
        change(add(EMPTY))


def test_a_policy_that_asks_for_nothing_is_left_out() -> None:
    def hold(policy: Policy) -> Policy:
        return policy.model_copy(update={"hold": True})

    held = set_policy(EMPTY, "gw-1", "", hold)
    assert set_policy(held, "gw-1", "", hold) == held
    both = set_policy(held, "", "plant", hold)
    assert len(both.policies) == 2
    free = set_policy(both, "gw-1", "", lambda policy: policy.model_copy(update={"hold": False}))
    assert [policy.group for policy in free.policies] == ["plant"]


BUNDLES = software().bundles


def add_version(index: ReleaseIndex, **changes: object) -> ReleaseIndex:
    content = {"version": "2.0.0", "bundles": BUNDLES, "plan": Plan(), "now_s": 5, "gateways": []}
    return add_software(index, **(content | changes))


def test_software_takes_its_number_from_the_same_row_as_students() -> None:
    index = add_version(add(EMPTY))
    assert [each.number for each in index.rollouts] == [1, 2]
    assert add_version(index, now_s=99) is index
    with pytest.raises(ReleaseRefused, match="kpstream centre abort software"):
        add_version(index, version="3.0.0")
    later = add_version(abort_release(index, "software", "bad"), now_s=99)
    assert (later.software.number, later.software.state) == (3, "running")
    assert later.releases == index.releases
    assert add_version(index, version="3.0.0", replace=True).software.number == 3


def test_software_pauses_resumes_and_is_aborted_by_its_name() -> None:
    index = add_version(add(EMPTY))
    paused = pause_release(index, "software", "too hot")
    assert (paused.software.state, paused.software.reason) == ("paused", "too hot")
    assert paused.releases == index.releases
    resumed = resume_release(paused, "software", 500, max_failed=7).software
    assert (resumed.state, resumed.step_since_s, resumed.plan.max_failed) == ("running", 500, 7)
    assert abort_release(paused, "software", "bad").software.state == "aborted"
    with pytest.raises(ReleaseRefused, match="software has no release"):
        find_release(add(EMPTY), "software")


def test_no_student_takes_the_name_of_the_software() -> None:
    with pytest.raises(ReleaseRefused, match="give the student another name"):
        add(EMPTY, name="software")
