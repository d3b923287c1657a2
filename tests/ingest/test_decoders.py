"""Claims of formats: nobody shares a topic with another one, and reserved topics come first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.decoders import Claim, ClaimConflict, Decoders, check_claims, claim_faults
from ingest.topicfilters import TopicSet, intersection
from tests.ingest.test_topicfilters import filters, of


def claim(name: str, *mqtt_filters: str) -> Claim:
    return Claim(name, [TopicSet(each) for each in mqtt_filters])


OURS = claim("our own topics", "sensors/#")
SPARKPLUG = claim("Sparkplug (spark.toml)", "spBv1.0/#")


@pytest.mark.parametrize(
    ("claims", "shared"),
    [
        ([claim("a.toml", "tele/+/SENSOR"), claim("b.toml", "tele/+/STATE")], None),
        ([claim("a.toml", "tele/+/SENSOR"), claim("b.toml", "tele/#")], "tele/+/SENSOR"),
        ([claim("a.toml", "x", "y/+"), claim("b.toml", "z", "+/k")], "y/k"),
        ([claim("a.toml", "+/+/+/data"), claim("b.toml", "+/+/+/state")], None),
        # Both reach sensors/... by wildcards only, and leave it out.
        ([claim("a.toml", "+/+/+/data")], None),
        ([claim("a.toml", "#")], None),
        # They name the reserved topics.
        ([claim("a.toml", "sensors/+/+/data")], "sensors/+/+/data"),
        ([claim("a.toml", "sensors")], "sensors"),
        ([claim("a.toml", "spBv1.0/+/NDATA/+")], "spBv1.0/+/NDATA/+"),
    ],
)
def test_a_shared_topic_is_a_fault_with_both_names(claims: list[Claim], shared: str | None) -> None:
    faults = claim_faults(claims, [OURS, SPARKPLUG])
    if shared is None:
        assert faults == []
        return
    other = "Sparkplug (spark.toml)" if shared.startswith("sp") else OURS.name
    names = {claims[0].name, claims[-1].name if len(claims) > 1 else other}
    assert len(faults) == 1
    assert repr(shared) in faults[0]
    assert all(name in faults[0] for name in names)


def test_every_fault_is_told_at_once() -> None:
    claims = [claim("a.toml", "t/+"), claim("b.toml", "t/#"), claim("c.toml", "t/x")]
    with pytest.raises(ClaimConflict) as refused:
        check_claims(claims)
    assert len(str(refused.value).splitlines()) == 3


@given(st.lists(filters(), min_size=1, max_size=3), st.lists(filters(), min_size=1, max_size=3))
def test_without_a_fault_no_topic_is_claimed_twice(one: list[str], other: list[str]) -> None:
    claimed = [set().union(*map(of, each)) for each in (one, other)]
    faults = claim_faults([claim("one", *one), claim("other", *other)])
    assert bool(faults) == bool(claimed[0] & claimed[1])


@given(filters(), filters(), filters())
def test_reserved_topics_are_no_fault_if_they_are_all_that_is_shared(
    one: str, other: str, reserved: str
) -> None:
    faults = claim_faults([claim("one", one), claim("other", other)], [claim("r", reserved)])
    inside = [each for each in (one, other) if of(each) and of(each) <= of(reserved)]
    shared = of(one) & of(other)
    if not faults:
        assert not inside
        assert shared <= of(reserved)
    assert intersection(one, other) is not None or not any("one and other" in f for f in faults)


def test_without_decoders_nothing_is_taken_kept_or_said() -> None:
    none = Decoders(())
    assert none.filters == none.due(0, 0) == none.outgoing(0) == []
    assert none.checkpoint() is none.farewell(0) is None
