"""When a score of remaining life is at alert level: one score, and scores as columns."""

from __future__ import annotations

import numpy as np
import pytest

from models.tasks.familiarity import Familiarity, widen
from models.tasks.registry import find_task
from models.tasks.rul import CRITICAL_RUL, MAX_RUL, RUL
from tests.fakes.duecases import DUE_CASES, DueCase


@pytest.mark.parametrize("case", DUE_CASES, ids=lambda case: case.device)
def test_a_score_is_due_not_due_or_says_neither(case: DueCase) -> None:
    assert RUL.is_alarming(case.fields) is case.is_due


@pytest.mark.parametrize("has_ends", [True, False])
def test_columns_of_scores_are_judged_as_single_scores_are(has_ends: bool) -> None:
    cases = [case for case in DUE_CASES if (case.ends is not None) is has_ends]
    columns = {
        "rul": np.float32([case.rul for case in cases]),
        "quality": [case.quality or "good" for case in cases],
    }
    if has_ends:
        columns |= {
            name: np.float32([case.fields[name] for case in cases])
            for name in ("rul_low", "rul_high")
        }
    want = [case.is_due is True for case in cases]
    assert RUL.alarming(columns, len(cases)).tolist() == want
    for case in cases:  # a quality that all scores share is one text
        one = {"rul": np.float32([case.rul] * 3), "quality": case.quality or "good"}
        if case.ends is not None:
            one |= {"rul_low": case.ends[0], "rul_high": case.ends[1]}
        assert RUL.alarming(one, 3).tolist() == [case.is_due is True] * 3


def test_a_window_far_beyond_the_limit_is_never_due_whatever_the_number_says() -> None:
    """The whole range is possible then, so no number of a lost student can raise an alarm."""
    rule = Familiarity(limit=3.0, whole=24.0, rejects=0.03)
    far = np.float32([24.0, 50.0, 100.0])
    zeros = np.zeros(3, np.float32)
    low, high = widen(zeros, zeros, far, rule, (0.0, MAX_RUL))
    columns = {"rul": zeros, "rul_low": low, "rul_high": high, "quality": "unfamiliar"}
    assert not RUL.alarming(columns, 3).any()
    near = np.float32([3.0 + 21.0 * CRITICAL_RUL / MAX_RUL * share for share in (0.5, 0.99, 1.01)])
    low, high = widen(zeros, zeros, near, rule, (0.0, MAX_RUL))
    columns |= {"rul_low": low, "rul_high": high}
    assert RUL.alarming(columns, 3).tolist() == [True, True, False]


def test_other_tasks_keep_their_rules() -> None:
    lost = {"quality": "unfamiliar"}
    assert find_task("forecast").is_alarming({"alarm": 0} | lost) is False
    assert find_task("forecast").is_alarming({"alarm": 1} | lost) is True
    assert find_task("activity").is_alarming(lost) is False
