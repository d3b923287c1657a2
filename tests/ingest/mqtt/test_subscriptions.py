"""The requested filters, and the time at which all of them are in place."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ingest.mqtt.subscriptions import Reason, Subscriptions

GRANTED, REFUSED = Reason(1, "Granted QoS 1"), Reason(0x87, "Not authorized")


@pytest.mark.parametrize(
    ("filters", "stale", "leaves", "subscribe", "unsubscribe"),
    [
        (["a", "b"], ["old"], False, ("a", "b"), ()),
        (["a", "b"], ["old"], True, (), ("a", "b", "old")),
        ([], ["old"], False, (), ()),
        ([], ["old"], True, (), ()),
    ],
)
def test_requests_after_connect(
    filters: list[str],
    stale: list[str],
    leaves: bool,
    subscribe: tuple[str, ...],
    unsubscribe: tuple[str, ...],
) -> None:
    subscriptions = Subscriptions(filters, stale, leaves=leaves)
    assert subscriptions.on_connect() == (subscribe, unsubscribe)
    assert not subscriptions.in_place


@pytest.mark.parametrize(("session_present", "unsubscribe"), [(True, ("old",)), (False, ())])
def test_stale_filters_go_once_the_new_ones_are_in_place(
    session_present: bool, unsubscribe: tuple[str, ...]
) -> None:
    subscriptions = Subscriptions(["a"], ["old"], leaves=False)
    answer = subscriptions.on_suback([GRANTED], session_present=session_present)
    assert answer == (None, unsubscribe)
    assert subscriptions.in_place
    subscriptions.on_unsuback()
    assert subscriptions.in_place
    subscriptions.on_disconnect()
    assert not subscriptions.in_place


def test_a_refused_filter_is_named_and_stale_ones_stay() -> None:
    subscriptions = Subscriptions(["a", "b"], ["old"], leaves=False)
    error, unsubscribe = subscriptions.on_suback([GRANTED, REFUSED], session_present=True)
    assert error == (
        "the broker refuses the subscription 'b': Not authorized; check the broker's access list"
    )
    assert unsubscribe == ()
    assert not subscriptions.in_place


@pytest.mark.parametrize("leaves", [True, False])
def test_a_client_that_leaves_is_done_after_unsuback(leaves: bool) -> None:
    subscriptions = Subscriptions(["a"], [], leaves=leaves)
    subscriptions.on_unsuback()
    assert subscriptions.in_place is leaves


class Memory:
    def __init__(self, *filters: str) -> None:
        self.filters: Sequence[str] = filters
        self.is_confirmed = bool(filters)

    def read(self) -> Sequence[str]:
        return self.filters

    def has_session(self) -> bool:
        return self.is_confirmed

    def write(self, filters: Sequence[str], *, has_session: bool) -> None:
        self.filters, self.is_confirmed = tuple(filters), has_session


def test_former_filters_are_remembered_until_the_broker_has_dropped_them() -> None:
    memory = Memory("a", "former")
    subscriptions = Subscriptions(["a", "b"], ["old"], leaves=False, memory=memory)
    assert subscriptions.on_connect() == (("a", "b"), ())
    assert memory.filters == ("a", "b", "former"), "written before the broker subscribes us"
    assert subscriptions.on_suback([GRANTED], session_present=True) == (None, ("old", "former"))
    assert memory.filters == ("a", "b", "former"), "a killed process must ask again"
    subscriptions.on_unsuback([GRANTED, REFUSED])
    assert memory.filters == ("a", "b", "former"), "the broker keeps it, so we do"
    subscriptions.on_unsuback([GRANTED, GRANTED])
    assert memory.filters == ("a", "b")


def test_without_a_session_there_is_nothing_to_drop() -> None:
    memory = Memory("former")
    subscriptions = Subscriptions(["a"], ["old"], leaves=False, memory=memory)
    subscriptions.on_connect()
    assert subscriptions.on_suback([GRANTED], session_present=False) == (None, ())
    assert memory.filters == ("a",)


def test_a_client_that_leaves_gives_up_former_filters_too() -> None:
    memory = Memory("a", "former")
    subscriptions = Subscriptions(["a"], [], leaves=True, memory=memory)
    assert subscriptions.on_connect() == ((), ("a", "former"))
    subscriptions.on_unsuback()
    assert memory.filters == ()


def test_a_session_is_expected_once_the_broker_has_accepted_the_subscription() -> None:
    subscriptions = Subscriptions(["a"], [], leaves=False)
    subscriptions.on_connect()
    assert not subscriptions.has_session, "the broker may close the connection instead"
    subscriptions.on_suback([REFUSED], session_present=False)
    assert not subscriptions.has_session
    subscriptions.on_suback([GRANTED], session_present=False)
    assert subscriptions.has_session


def test_other_filters_are_subscribed_to_before_the_former_ones_go() -> None:
    memory = Memory()
    subscriptions = Subscriptions(["a", "b"], [], leaves=False, memory=memory)
    subscriptions.on_connect()
    assert subscriptions.on_suback([GRANTED] * 2, session_present=False) == (None, ())
    subscriptions.replace(["b", "c"])
    assert subscriptions.on_connect() == (("b", "c"), ())
    assert set(memory.filters) == {"a", "b", "c"}
    assert subscriptions.on_suback([GRANTED] * 2, session_present=False) == (None, ("a",))
    assert set(memory.filters) == {"a", "b", "c"}
    subscriptions.on_unsuback([GRANTED])
    assert set(memory.filters) == {"b", "c"}
    subscriptions.replace(["a"])  # and back again
    assert subscriptions.on_connect() == (("a",), ())
    assert subscriptions.on_suback([GRANTED], session_present=False) == (None, ("b", "c"))


def test_filters_replaced_while_disconnected_go_at_the_next_connect() -> None:
    subscriptions = Subscriptions(["a"], [], leaves=False)
    subscriptions.on_connect()
    subscriptions.on_suback([GRANTED], session_present=False)
    subscriptions.on_disconnect()
    subscriptions.replace(["b"])
    assert subscriptions.on_connect() == (("b",), ())
    assert subscriptions.on_suback([GRANTED], session_present=True) == (None, ("a",))
