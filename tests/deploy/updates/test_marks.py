from deploy.rollout.release import WHOLE, Plan, Release, ReleaseIndex
from deploy.updates.marks import Facts, Marks, decode_marks, going_back, raised

KEYS = {"root": "r", "timestamp": "t", "snapshot": "s", "targets": "g"}
VERSIONS = {"root": 3, "timestamp": 30, "snapshot": 20, "targets": 10}


def facts(versions=None, **keys) -> Facts:
    return Facts(versions={**VERSIONS, **(versions or {})}, keys={**KEYS, **keys})


def index(number: int, made_s: int = 1000) -> ReleaseIndex:
    release = Release(
        number=number,
        name="rul",
        version=1,
        digest="0" * 64,
        plan=Plan(),
        step_since_s=0,
        cutoff=WHOLE,
        created_s=0,
    )
    return ReleaseIndex(made_s=made_s, releases=(release,))


MARKS = raised(Marks(), "pin", facts(), index(5))


def test_what_was_verified_once_is_no_step_back():
    assert going_back(Marks(), "pin", facts(), index(1)) is None
    assert going_back(MARKS, "pin", facts(), index(5)) is None


def test_each_role_refuses_to_go_back():
    for role, version in VERSIONS.items():
        reason = going_back(MARKS, "pin", facts({role: version - 1}), None)
        assert reason is not None
        assert reason.startswith(f"rollback of {role}: the repository offers version {version - 1}")


def test_a_release_number_refuses_to_go_back():
    reason = going_back(MARKS, "pin", facts(), index(4))
    assert reason is not None
    assert "give the next release a number above 5" in reason


def test_rotated_keys_start_the_marks_that_go_by_them_anew():
    back = {"timestamp": 1, "snapshot": 1, "targets": 1}
    for rotated, free in (
        ("timestamp", {"timestamp", "snapshot"}),
        ("snapshot", {"snapshot", "targets"}),
        ("targets", {"targets"}),
        ("root", set()),
    ):
        for role, version in back.items():
            reason = going_back(MARKS, "pin", facts({role: version}, **{rotated: "new"}), None)
            assert (reason is None) == (role in free), (rotated, role)
    assert going_back(MARKS, "pin", facts(targets="new"), index(1)) is None


def test_another_pinned_root_starts_the_mark_of_the_root_anew():
    assert going_back(MARKS, "other", facts({"root": 1}), None) is None
    assert going_back(MARKS, "other", facts({"timestamp": 1}), None) is not None


def test_the_marks_follow_what_is_verified():
    higher = raised(MARKS, "pin", facts({"timestamp": 31}), index(6, made_s=2000))
    assert higher.versions["timestamp"] == 31
    assert (higher.releases, higher.made_s) == ({"rul": 6}, 2000)
    assert raised(higher, "pin", facts({"timestamp": 31}), None) == higher


def test_releases_and_time_are_forgotten_with_the_keys_that_signed_them():
    fresh = raised(MARKS, "pin", facts(targets="new"), index(1, made_s=10))
    assert (fresh.releases, fresh.made_s) == ({"rul": 1}, 10)


def test_the_marks_survive_the_state_file():
    assert decode_marks(MARKS.to_object()) == MARKS
