"""Every registered task keeps the contract."""

from __future__ import annotations

import numpy as np
import pytest

from models.dummy import dummy_draft
from models.errors import UnknownTask
from models.tasks.contract import Task
from models.tasks.number import NumberAnswer
from models.tasks.quantiles import QuantilesAnswer
from models.tasks.registry import find_task, tasks
from tests.fakes.scores import rows_of

ROWS = 4
EVERY_TASK = pytest.mark.parametrize("task", tasks(), ids=lambda task: task.name)


def windows(task: Task, rows: int = ROWS) -> np.ndarray:
    """Windows that the outputs could belong to."""
    draft = dummy_draft(task.name)
    shape = (rows, draft.window.length, len(draft.channels))
    return np.random.default_rng(1).uniform(0, 1, shape).astype(np.float32)


def impossible(task: Task) -> dict[str, np.ndarray]:
    """Raw outputs out of range, or quantiles in the wrong order."""
    is_fan = isinstance(task.answer, QuantilesAnswer)
    return {name: raw[..., ::-1] if is_fan else raw - 1000 for name, raw in outputs(task).items()}


def outputs(task: Task, rows: int = ROWS) -> dict[str, np.ndarray]:
    """Raw outputs of a student within their range."""
    decoding = dummy_draft(task.name).decoding
    chance = np.random.default_rng(0)
    found = {}
    for name, dims in task.answer.outputs(decoding).items():
        shares = chance.uniform(0.1, 1, (rows, *dims))
        if isinstance(task.answer, NumberAnswer):
            low, high = decoding.bounds  # type: ignore[attr-defined]
            shares = low + (high - low) * shares
        elif isinstance(task.answer, QuantilesAnswer):
            shares = np.sort(shares, axis=-1)
        else:
            shares /= shares.sum(axis=1, keepdims=True)
        found[name] = shares.astype(np.float32)
    return found


@EVERY_TASK
def test_the_fields_of_a_record_are_those_of_the_table(task: Task) -> None:
    draft = dummy_draft(task.name)
    raw = outputs(task)
    scores = task.answer.decoder(draft.decoding, draft.interval)(
        raw, np.ones(ROWS, bool), windows(task)
    )
    assert len(scores) == ROWS
    keys = [field.labels_in or field.name for field in task.fields if field.name != task.due_field]
    keys += task.details.keys if task.details else ()
    for record in rows_of(task.answer.columns(scores), ROWS):
        assert list(record) == keys


@EVERY_TASK
def test_a_row_that_is_not_valid_holds_zero_and_no_live_figure(task: Task) -> None:
    draft = dummy_draft(task.name)
    raw = outputs(task)
    for output in raw.values():
        output[1] = np.nan
    valid = np.arange(ROWS) != 1
    scores = task.answer.decoder(draft.decoding, draft.interval)(raw, valid, windows(task))
    assert not scores.valid[1]
    assert not np.any(scores.values[1])
    assert all(np.isfinite(value) for value in task.answer.health(scores).values())
    none = task.answer.decoder(draft.decoding, draft.interval)(
        raw, np.zeros_like(valid), windows(task)
    )
    assert task.answer.health(none) == {}


@EVERY_TASK
def test_perfect_scores_are_better_than_bad_ones_by_the_headline(task: Task) -> None:
    truth = np.array([0, 1, 2, 1])
    if isinstance(task.answer, NumberAnswer):
        perfect, bad = truth.astype(np.float32), truth.astype(np.float32) + 5
    elif isinstance(task.answer, QuantilesAnswer):
        truth = truth[:, None, None].repeat(2, axis=1)
        perfect = truth[..., None].repeat(3, axis=3).astype(np.float32)
        bad = perfect + 5
    else:
        perfect, bad = (np.eye(3, dtype=np.float32)[rows] for rows in (truth, (truth + 1) % 3))
    good, worse = task.measure(truth, perfect), task.measure(truth, bad)
    assert list(good) == [*(measure.name for measure in task.measures), "windows"]
    name = task.headline.name
    assert task.headline.is_better(good[name], worse[name])
    assert not task.headline.is_better(good[name], good[name])
    assert task.answer.window_errors(truth, perfect).tolist() == [0, 0, 0, 0]
    assert (task.answer.window_errors(truth, bad) > 0).all()


@EVERY_TASK
def test_typical_outputs_have_no_flaw_and_impossible_ones_have(task: Task) -> None:
    decoding = dummy_draft(task.name).decoding
    raw = outputs(task)
    assert task.answer.flaw(raw, decoding) is None
    assert task.answer.flaw(impossible(task), decoding)
    tolerances = task.answer.tolerance(decoding)
    assert list(tolerances) == list(raw)
    for name, output in raw.items():
        limits = np.broadcast_to(tolerances[name], output.shape)
        assert (limits > 0).all()
        assert (limits < 0.01).all()


@EVERY_TASK
def test_hours_are_made_of_fields_that_exist(task: Task) -> None:
    assert task.hourly is not None
    for hour in task.hourly.fields:
        assert task.field(hour.source)


def test_an_unknown_task_is_refused_with_the_known_ones() -> None:
    wanted = "unknown task 'level'; known tasks: activity, forecast, rul"
    with pytest.raises(UnknownTask, match=wanted):
        find_task("level")
