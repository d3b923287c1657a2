"""What is sent, and the scores that it should give."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.bench.peers.programs.student import Progress, Student
from tests.bench.peers.reference import check_scores, offline_scores
from tests.bench.peers.workloads import DISTINCT, ROOT, W1, W2, Workload, device_name


@pytest.mark.parametrize("workload", [W1, W2])
def test_messages_carry_the_sequence_that_the_reference_scores(workload: Workload) -> None:
    student = Student(ROOT / "models/zoo" / workload.student)
    bodies = workload.values(3)
    sent = []
    for round_ in range(len(bodies) + 2):
        message = json.loads(workload.body(1000 * round_, bodies[round_ % len(bodies)]))
        sent += [row for _, row in student.rows(message)]
    assert len(sent) > DISTINCT
    np.testing.assert_array_equal(sent, workload.sequence(3, len(sent)))


def test_event_time_of_a_message_is_that_of_its_first_reading() -> None:
    student = Student(ROOT / "models/zoo" / W2.student)
    times = [ts for ts, _ in student.rows(json.loads(W2.body(5000, W2.values(0)[0])))]
    assert times == list(range(5000, 5200, 20))


@pytest.mark.parametrize("workload", [W1, W2])
@pytest.mark.parametrize("full_only", [False, True])
def test_reference_has_the_scores_expected(workload: Workload, full_only: bool) -> None:
    for readings in (29, 30, 69, 70, 128, 200):
        scores = offline_scores(workload, 0, readings, full_only=full_only)
        assert len(scores) == workload.scores_expected(readings, full_only=full_only)


def test_a_window_that_is_not_full_repeats_its_first_reading() -> None:
    student = Student(ROOT / "models/zoo" / W1.student)
    rows = W1.sequence(0, 30).astype(np.float32)
    window = student.window(rows)
    assert window.shape == (student.length, len(student.names))
    np.testing.assert_array_equal(window[: student.length - 29], np.tile(rows[0], (41, 1)))
    np.testing.assert_array_equal(window[-30:], rows)


def test_right_scores_hold_and_every_flaw_is_found() -> None:
    right = {device_name(n): offline_scores(W1, n, 40).tolist() for n in range(3)}
    assert check_scores(right, W1, 3, 40).holds
    few = right | {"d00001": right["d00001"][:-2]}
    assert check_scores(few, W1, 3, 40).missing == 2
    many = right | {"d00001": [*right["d00001"], [1.0]], "stranger": [[1.0]]}
    assert check_scores(many, W1, 3, 40).unknown == 2
    swapped = right | {"d00001": right["d00001"][::-1]}
    check = check_scores(swapped, W1, 3, 40)
    assert not check.holds
    assert (check.missing, check.unknown) == (0, 0)
    assert not check_scores({}, W1, 3, 40).holds


def test_progress_is_seen_by_another_reader(tmp_path) -> None:
    written = Progress.create(tmp_path / "progress")
    read = Progress(tmp_path / "progress")
    assert read.get() == (0, 0, 0)
    written.set(5, 3)
    assert read.get() == (5, 3, 1)
