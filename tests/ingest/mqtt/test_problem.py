"""What replaces the problem on display, and what clears it."""

from __future__ import annotations

import logging

import pytest

from ingest.mqtt.problem import Kind, Problem, Until


def shown(*problems: tuple[str, Until, Kind]) -> Problem:
    problem = Problem("broker:1883")
    for each in problems:
        problem.show(*each)
    return problem


FACT = ("no route", Until.ACCEPTED, Kind.FACT)
GIVEN = ("quota exceeded", Until.READY, Kind.GIVEN)
REFUSED = ("wrong password", Until.ACCEPTED, Kind.GIVEN)
BARE = ("connection lost", Until.READY, Kind.BARE)
HUNG_UP = ("closed before the answer", Until.ACCEPTED, Kind.BARE)
LASTING = ("taken over", Until.SOUND, Kind.GIVEN)


@pytest.mark.parametrize(
    ("problems", "text"),
    [
        ([FACT, BARE], "connection lost"),
        ([BARE, FACT], "no route"),
        ([GIVEN, BARE], "quota exceeded"),
        ([GIVEN, HUNG_UP], "quota exceeded"),
        ([REFUSED, HUNG_UP], "wrong password"),
        ([GIVEN, FACT], "no route"),
        ([GIVEN, REFUSED], "wrong password"),
        ([LASTING, BARE], "taken over"),
        ([LASTING, FACT], "no route"),
        ([LASTING, GIVEN], "quota exceeded"),
    ],
)
def test_what_is_on_display(problems: list[tuple[str, Until, Kind]], text: str) -> None:
    assert shown(*problems).text == text


@pytest.mark.parametrize(
    ("problem", "cleared_by"),
    [(FACT, Until.ACCEPTED), (GIVEN, Until.READY), (BARE, Until.READY), (LASTING, Until.SOUND)],
)
def test_a_problem_is_cleared_by_the_step_that_failed(
    problem: tuple[str, Until, Kind], cleared_by: Until
) -> None:
    on_display = shown(problem)
    for reached in Until:
        if reached < cleared_by:
            on_display.clear(reached)
            assert on_display.text == problem[0]
    on_display.clear(cleared_by)
    assert on_display.text is None


def test_a_lasting_problem_comes_back_when_a_newer_one_is_cleared() -> None:
    problem = shown(LASTING, FACT)
    problem.clear(Until.ACCEPTED)
    assert problem.text == "taken over"
    problem.show(*GIVEN)
    problem.clear(Until.READY)
    assert problem.text == "quota exceeded", "the latest reason that was given lasts now"


def test_keep_makes_what_is_shown_last() -> None:
    problem = shown(BARE)
    problem.keep()
    problem.clear(Until.READY)
    assert problem.text == "connection lost"
    assert problem.is_lasting
    problem.clear(Until.SOUND)
    assert problem.text is None


def test_a_text_is_logged_when_it_is_new_and_when_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    problem = Problem("broker:1883")
    problem.clear(Until.SOUND)
    for _ in range(3):
        problem.show(*FACT)
        problem.show(*GIVEN, logging.ERROR)
        problem.show(*BARE)
    problem.clear(Until.ACCEPTED)
    problem.clear(Until.READY)
    problem.clear(Until.SOUND)
    assert [(each.levelname, each.message) for each in caplog.records] == [
        ("WARNING", "broker:1883: no route"),
        ("ERROR", "broker:1883: quota exceeded"),
    ] * 3 + [("WARNING", "broker:1883: the connection is in order again")]
