"""The documents of a rollout: bounds, members of a step, signed reports."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from deploy.rollout.release import (
    WHOLE,
    Plan,
    Policy,
    Release,
    ReleaseIndex,
    Step,
    cutoff_of,
    is_member,
)
from deploy.rollout.report import (
    GatewayReport,
    ReportRefused,
    StudentReport,
    decode_report,
    encode_report,
)
from ingest.topics import report_topic
from tests.deploy.rollout.fleets import runs, software

GATEWAYS = [f"gateway-{number}" for number in range(1000)]


def _release(number: int = 1, name: str = "rul-fd001", **changes: object) -> Release:
    content = {
        "number": number,
        "name": name,
        "version": 2,
        "digest": "0" * 64,
        "plan": {"steps": [{"percent": 100}]},
        "step_since_s": 0,
        "cutoff": WHOLE,
        "created_s": 0,
    }
    return Release.model_validate(content | changes)


def test_a_fraction_has_no_place_in_a_signed_document():
    with pytest.raises(ValidationError):
        Step.model_validate({"percent": 10, "seconds": 0.5})
    with pytest.raises(ValidationError):
        Step.model_validate({"percent": 0.1})


@pytest.mark.parametrize("shares", [[10, 50], [50, 10, 100], [100, 100], []])
def test_the_steps_of_a_plan_grow_to_all(shares):
    with pytest.raises(ValidationError):
        Plan.model_validate({"steps": [{"percent": share} for share in shares]})


def test_the_members_of_a_step_are_those_of_the_next_one_too_and_others_in_another_release():
    def members(number: int, share: float) -> set[str]:
        release = _release(number, cutoff=int(share * WHOLE))
        return {name for name in GATEWAYS if is_member(release, name)}

    first, second = members(1, 0.1), members(1, 0.5)
    assert first < second < members(1, 1.0) == set(GATEWAYS)
    expected, deviation = 100, math.sqrt(1000 * 0.1 * 0.9)
    assert abs(len(first) - expected) < 5 * deviation
    assert members(1, 0.0) == set()
    assert first != members(2, 0.1)


def test_a_plan_leaves_out_held_gateways_and_other_groups():
    release = _release(plan={"groups": ["hall"], "hold": ["gateway-1"]})
    assert is_member(release, "gateway-2", "hall")
    assert not is_member(release, "gateway-1", "hall")
    assert not is_member(release, "gateway-2", "office")
    assert not is_member(release, "gateway-2")


def test_an_index_has_one_release_a_student():
    ReleaseIndex(made_s=0, releases=(_release(1, "a"), _release(2, "b")))
    for names in (("a", "a"), ("b", "a")):
        with pytest.raises(ValidationError):
            ReleaseIndex(made_s=0, releases=tuple(_release(1, name) for name in names))


@pytest.mark.parametrize(
    "content", [{}, {"gateway": "a", "group": "b"}, {"group": "b", "window": "2:00-4:00"}]
)
def test_a_policy_is_for_one_gateway_or_group(content):
    with pytest.raises(ValidationError):
        Policy.model_validate(content)
    Policy(group="hall", window="22:00-04:30", hold=True, pin={"rul-fd001": 3})


REPORT = GatewayReport(
    gateway="press-7", sent_s=1_750_000_000, students=(StudentReport(name="rul-fd001", version=2),)
)


@pytest.mark.parametrize("key", [None, b"secret"])
def test_a_report_is_what_was_sent(key):
    payload = encode_report(REPORT, key)
    assert decode_report(report_topic("press-7"), payload, key) == REPORT
    assert decode_report(report_topic("press-7"), payload) == REPORT


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (encode_report(REPORT), "not signed"),
        (encode_report(REPORT, b"other"), "not signed"),
        (encode_report(REPORT, b"secret").replace(b"fd001", b"fd002"), "not signed"),
        (b"x" * 70_000, "bytes"),
    ],
)
def test_a_report_with_a_wrong_signature_is_refused(payload, reason):
    with pytest.raises(ReportRefused, match=reason):
        decode_report(report_topic("press-7"), payload, b"secret")


@pytest.mark.parametrize("payload", [b"", b"[]", b'{"gateway": "press-7"}', b"\xff"])
def test_a_damaged_report_is_refused(payload):
    with pytest.raises(ReportRefused, match="invalid"):
        decode_report(report_topic("press-7"), payload)


def test_a_report_speaks_for_its_own_topic_only():
    with pytest.raises(ReportRefused, match="press-7, but came on the topic gateways/press-8/"):
        decode_report(report_topic("press-8"), encode_report(REPORT))


def test_the_cutoff_of_a_step_is_its_share_of_the_known_gateways():
    fleet = [(name, "north" if number % 2 else "south") for number, name in enumerate(GATEWAYS)]

    def members(plan: Plan, gateways: list[tuple[str, str]]) -> set[str]:
        release = _release(4, plan=plan.model_dump(), cutoff=cutoff_of(4, plan, 0, gateways))
        return {name for name, group in gateways if is_member(release, name, group)}

    tenth = Plan.model_validate({"steps": [{"percent": 10}, {"percent": 100}]})
    assert len(members(tenth, fleet)) == 100
    assert len(members(tenth, fleet[:3])) == 1, "one at least"
    north = tenth.model_copy(update={"groups": ("north",), "hold": tuple(GATEWAYS[:101])})
    assert len(members(north, fleet)) == (500 - 50) // 10
    assert cutoff_of(4, tenth, 1, fleet) == WHOLE
    assert cutoff_of(4, tenth, 0, []) == WHOLE // 10, "gateways that nobody knows yet"


def test_without_software_the_documents_are_those_that_an_older_version_reads():
    """Older versions refuse a field that they do not know, even an empty one."""
    index = ReleaseIndex(made_s=5, releases=(_release(),))
    assert set(index.model_dump()) == {"format", "made_s", "releases", "policies"}
    assert '"software"' not in index.model_dump_json()
    assert ReleaseIndex.model_validate_json(index.model_dump_json()) == index
    report = GatewayReport(gateway="gw-1", sent_s=5)
    assert b"update" not in encode_report(report)
    assert decode_report(report_topic("gw-1"), encode_report(report)) == report


def test_software_and_what_a_gateway_made_of_it_come_back_as_they_were():
    index = ReleaseIndex(made_s=5, software=software())
    assert ReleaseIndex.model_validate_json(index.model_dump_json()) == index
    report = runs("gw-1", "1.0.0", "failed", "sick").report
    assert decode_report(report_topic("gw-1"), encode_report(report)) == report


@pytest.mark.parametrize(
    "target", ["software/x.tar", "software/../kpstream-1.tar", "kpstream-1.tar"]
)
def test_a_bundle_has_its_place_among_the_targets(target):
    with pytest.raises(ValidationError):
        software(bundles=[{"target": target, "sha256": "0" * 64, "size": 1}])


def test_a_gateway_finds_the_bundle_of_its_own_machine():
    bundle = software().bundles[0]
    assert software().bundle_for("x86_64", "3.11") == bundle
    assert software().bundle_for("aarch64", "3.11") is None
    assert software().bundle_for("x86_64", "3.1") is None


def test_the_members_of_a_software_release_are_chosen_as_those_of_a_student():
    student, bundle = _release(7, cutoff=WHOLE // 10), software(number=7, cutoff=WHOLE // 10)
    members = [name for name in GATEWAYS if is_member(student, name)]
    assert [name for name in GATEWAYS if is_member(bundle, name)] == members
    assert 50 < len(members) < 150
    held = software(number=7, plan=Plan(hold=(members[0],)).model_dump())
    assert not is_member(held, members[0])
