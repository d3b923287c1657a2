"""The version of the next attempt, from what the broker did."""

from __future__ import annotations

import pytest

from ingest.mqtt.versions import Version, VersionChoice


def spoken(protocol: str, known: Version | None, did: str) -> list[str]:
    """The version of each attempt, and of the next one; `did` has one letter for each.

    r refused the version, n another refusal, a accepted and ended, q the same, but accepted at
    once, h hung up, s silent.
    """
    choice = VersionChoice(protocol, known)  # type: ignore[arg-type]
    versions = [choice.version]
    for letter in did:
        if letter == "r":
            choice.refused()
        elif letter == "n":
            choice.answered()
        elif letter in "aq":
            choice.accepted(is_quick=letter == "q")
            choice.ended()
        else:
            choice.unanswered(is_silence=letter == "s")
        versions.append(choice.version)
    return [version[0] for version in versions]


@pytest.mark.parametrize(
    ("did", "expected"),
    [
        ("a", "55"),
        ("nnn", "5555"),
        ("r", "53"),
        ("rahhhhhhh", "5333333333"),  # a version that worked is kept
        ("rahhhhhhhh", "53333333335"),  # ... until the broker may have been replaced
        ("rr", "535"),
        ("hh", "553"),
        ("hhh", "5535"),
        ("hhhhhhh", "55355553"),  # each trial that failed doubles the way to the next
        ("s", "53"),
        ("ssssss", "5355355"),
        ("sqqs", "53333"),  # 3.1.1 answers at once where 5 was silent: that is proof
        ("sa", "535"),  # a slow login may be quicker the second time
        ("sasa", "53533"),
        ("hsq", "5535"),
        ("hha", "5535"),  # a broker that had just started? 5 once more
        ("hhaa", "55355"),
        ("hhaha", "553533"),
        ("hhahahhhhhhh", "5535333333333"),
        ("hhn", "5535"),
        ("hhnhn", "553533"),
        ("hhar", "55353"),
    ],
)
def test_versions_of_the_attempts_with_an_unknown_broker(did: str, expected: str) -> None:
    assert "".join(spoken("auto", None, did)) == expected


@pytest.mark.parametrize("known", ["5", "3.1.1"])
def test_a_known_version_outlasts_silence_and_hang_ups(known: Version) -> None:
    first, other = known[0], {"5": "3", "3": "5"}[known[0]]
    assert spoken("auto", known, "hsshshh") == [first] * 8
    assert spoken("auto", known, "hsshshhs")[-1] == other, "the broker may have been replaced"
    assert spoken("auto", known, "hsshshhss")[-1] == first
    assert spoken("auto", known, "r")[-1] == other, "the broker says so itself"


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize("known", [None, "5", "3.1.1"])
def test_a_fixed_version_never_changes(protocol: str, known: Version | None) -> None:
    assert set(spoken(protocol, known, "rhhhsssarnr" * 5)) == {protocol[0]}


def test_only_what_is_proved_is_to_be_remembered() -> None:
    choice = VersionChoice("auto", None)
    choice.unanswered(is_silence=False)
    choice.unanswered(is_silence=False)
    assert choice.version == "3.1.1"
    assert not choice.accepted(is_quick=True), "the broker may just have started"
    choice.ended()
    choice.unanswered(is_silence=False)
    assert choice.accepted(is_quick=True)
    assert not VersionChoice("5", None).accepted(is_quick=True), (
        "the settings say so, not the broker"
    )


def test_both_versions_refused_is_known() -> None:
    choice = VersionChoice("auto", None)
    choice.refused()
    assert not choice.both_refused
    choice.refused()
    assert choice.both_refused
    choice.accepted(is_quick=True)
    assert not choice.both_refused
