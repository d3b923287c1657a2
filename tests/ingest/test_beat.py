"""When a load closes: by time, by messages, by the window of the sender."""

from __future__ import annotations

from ingest.beat import BEAT_MESSAGES, LEAST_WINDOW, Beat


def waits(closed_s: float, first_s: float, *messages: int) -> list[float]:
    """Waits of a load that has so many messages at its start and after each wait."""
    beat = Beat(100)
    beat.closed(closed_s)
    beat.closes_now(messages[0], 1, first_s)
    return [round(beat.wait_s(count), 6) for count in messages]


def test_loads_follow_one_another_in_beats_and_a_lone_message_waits_for_a_fifth() -> None:
    assert waits(50.0, 50.01, 2, 9) == [0.09, 0]
    assert waits(50.0, 50.01, 1, 1) == [0.02, 0]
    assert waits(50.0, 50.01, 1, 2, 9) == [0.02, 0.07, 0]
    assert waits(50.0, 50.09, 2, 3) == [0.02, 0]
    assert waits(50.0, 60.0, 7, 7) == [0.02, 0]
    beat = Beat(100)
    assert not beat.closes_now(1, 1, 60.0)
    assert beat.closes_now(BEAT_MESSAGES, 1, 60.0)


def test_without_a_beat_a_load_closes_at_once_and_the_socket_has_no_rest() -> None:
    beat = Beat(0)
    assert beat.closes_now(1, 1, 0.0)
    assert beat.rest_s == 0


def test_a_full_window_closes_a_load_and_more_messages_raise_the_window() -> None:
    beat = Beat(100)
    assert not beat.closes_now(19, LEAST_WINDOW - 1, 1.0)
    beat.closed(1.0)
    assert not beat.is_burst
    assert beat.closes_now(20, LEAST_WINDOW, 1.1)
    assert beat.closes_now(10, 2 * LEAST_WINDOW, 1.1)  # it was not the window yet
    assert beat.window == 2 * LEAST_WINDOW
    beat.closed(1.2)
    assert beat.is_burst
    assert not beat.closes_now(20, 34, 1.3)
    assert beat.closes_now(20, 35, 1.3)  # a broker does not keep to a number
    beat.closed(1.3)
    assert beat.is_burst
    beat.closed(1.4)
    assert not beat.is_burst
    beat.on_connected()
    assert beat.closes_now(20, LEAST_WINDOW, 1.5)


def test_in_mqtt_3_the_window_stays_the_least() -> None:
    beat = Beat(100)
    beat.on_connected(learns=False)
    for at_s, unacknowledged in ((1.0, 41), (1.1, 20), (1.2, 30)):
        assert not beat.closes_now(1, LEAST_WINDOW - 1, at_s)
        assert beat.closes_now(1, unacknowledged, at_s)
        beat.closed(at_s)
    assert beat.window == LEAST_WINDOW


def test_silence_after_many_messages_shows_the_window() -> None:
    beat = Beat(100)
    beat.closes_now(10, 200, 1.0)
    beat.closed(1.0)
    assert not beat.closes_now(20, 50, 1.01)
    beat.timed_out(50, 1.05)
    assert beat.window == 200  # messages have come until shortly before
    beat.timed_out(50, 1.1)
    assert beat.window == 50
    beat.timed_out(3, 1.1)
    assert beat.window == LEAST_WINDOW


def test_a_smaller_receive_maximum_is_the_window() -> None:
    beat = Beat(100, least_window=10)
    assert beat.closes_now(10, 10, 0.0)


def test_a_broker_that_sends_one_message_at_a_time_is_not_left_to_wait() -> None:
    beat = Beat(200)
    for at in (1.0, 1.05, 1.1, 1.15, 1.2):
        assert not beat.closes_now(1, 1, at)
        beat.timed_out(1, at + 0.04)
        beat.closed(at + 0.04)
        if at == 1.0:  # a lone message long after the one before it says nothing
            beat.timed_out(0, at + 0.04)
    assert not beat.closes_now(1, 1, 1.25)
    beat.timed_out(1, 1.29)
    beat.closed(1.29)
    assert beat.closes_now(1, 1, 1.3)
    beat.closed(1.3)
    assert beat.is_burst  # the next message is read at once
    assert not beat.closes_now(1, 2, 1.4)  # it sends more after all
    assert not beat.closes_now(1, 1, 1.5)


def test_a_small_window_is_learned_only_from_the_same_number_in_a_row() -> None:
    beat = Beat(200)
    for at, messages in ((1, 3), (2, 3), (3, 3), (4, 3), (5, 4)):
        assert not beat.closes_now(messages, messages, at)
        beat.timed_out(messages, at + 0.19)
    for at in (6, 7, 8, 9, 10):
        assert not beat.closes_now(3, 3, at)
        beat.timed_out(3, at + 0.19)
    assert beat.closes_now(3, 3, 11.0)
    beat.on_connected()
    assert not beat.closes_now(3, 3, 12.0)
