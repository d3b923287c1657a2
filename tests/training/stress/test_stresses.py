"""Stresses of windows: strength 0 changes nothing, seeds repeat, and each harms what it says."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.stress.stresses import (
    clipped,
    dropped,
    noisy,
    shifted,
    stuck,
    tilted,
    turned,
    vertical_of,
)

TRIPLES = [(0, 1, 2), (3, 4, 5)]
LOW, HIGH = np.full(7, -2.0), np.full(7, 2.0)

CHANGES: dict[str, Callable[..., np.ndarray]] = {
    "turned": lambda windows, strength: turned(windows, TRIPLES, 180 * strength, seed=3),
    "tilted": lambda windows, strength: tilted(windows, TRIPLES, 180 * strength, seed=3),
    "noisy": lambda windows, strength: noisy(windows, HIGH - LOW, strength, seed=3),
    "shifted": lambda windows, strength: shifted(windows, HIGH - LOW, strength, [1, 6]),
    "stuck": lambda windows, strength: stuck(windows, strength, [1, 6]),
    "dropped": lambda windows, strength: dropped(windows, strength, [1, 6]),
    "clipped": lambda windows, strength: clipped(windows, LOW, HIGH, strength),
}


def standing(count: int = 40, seed: int = 1) -> np.ndarray:
    """Windows of a turn rate, of an acceleration with gravity along its x, and a temperature."""
    windows = np.random.default_rng(seed).normal(0, 0.1, (count, 64, 7)).astype(np.float32)
    windows[:, :, 3] += 1.0
    windows[:, :, 6] += 30.0
    return windows


@pytest.mark.parametrize("name", CHANGES)
@given(seed=st.integers(0, 99))
def test_strength_zero_changes_nothing(name: str, seed: int) -> None:
    windows = standing(4, seed)
    np.testing.assert_allclose(CHANGES[name](windows, 0.0), windows, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", CHANGES)
@given(seed=st.integers(0, 99), strength=st.floats(0.01, 1.0))
def test_the_same_seed_gives_the_same_windows_and_leaves_the_given_ones(
    name: str, seed: int, strength: float
) -> None:
    windows = standing(4, seed)
    first = CHANGES[name](windows, strength)
    np.testing.assert_array_equal(first, CHANGES[name](windows, strength))
    np.testing.assert_array_equal(windows, standing(4, seed))
    assert first.dtype == np.float32
    assert first.shape == windows.shape


@pytest.mark.parametrize("name", ["shifted", "stuck", "dropped"])
def test_only_the_named_channels_change(name: str) -> None:
    windows = standing()
    changed = (CHANGES[name](windows, 0.5) != windows).any(axis=(0, 1))
    assert np.flatnonzero(changed).tolist() == [1, 6]


@pytest.mark.parametrize("angle", [15, 90, 180])
def test_a_turn_keeps_the_vertical_every_length_and_other_channels(angle: int) -> None:
    windows = standing()
    found = turned(windows, TRIPLES, angle)
    np.testing.assert_allclose(
        vertical_of(found, TRIPLES), vertical_of(windows, TRIPLES), atol=0.01
    )
    for places in map(list, TRIPLES):
        before, after = (np.linalg.norm(w[:, :, places], axis=2) for w in (windows, found))
        np.testing.assert_allclose(after, before, atol=1e-5)
    np.testing.assert_array_equal(found[:, :, 6], windows[:, :, 6])
    assert not np.allclose(found, windows, atol=1e-3)


@pytest.mark.parametrize("angle", [15, 90, 180])
def test_a_tilt_moves_the_vertical_by_its_angle(angle: int) -> None:
    windows = standing()
    felt = tilted(windows, TRIPLES, angle)[:, :, 3:6].mean(axis=1)
    cosine = felt @ vertical_of(windows, TRIPLES) / np.linalg.norm(felt, axis=1)
    np.testing.assert_allclose(cosine, np.cos(np.radians(angle)), atol=0.05)


def test_noise_has_the_deviation_that_it_says() -> None:
    apart = noisy(standing(), HIGH - LOW, 0.1) - standing()
    np.testing.assert_allclose(apart.std(axis=(0, 1)), 0.4, rtol=0.05)


@given(share=st.floats(0.01, 1.0))
def test_readings_beyond_a_saturated_range_are_at_its_end(share: float) -> None:
    found = clipped(standing(), LOW, HIGH, share)
    most = 2.0 * (1 - share)
    assert (np.abs(found) <= most + 1e-6).all()
    np.testing.assert_allclose(found[:, :, 6], most, atol=1e-6)


@pytest.mark.parametrize("change", [stuck, dropped])
def test_the_oldest_readings_stay_where_half_of_the_window_fails(
    change: Callable[..., np.ndarray],
) -> None:
    windows = standing()
    found = partial(change, share=0.5, places=[0])(windows)
    np.testing.assert_array_equal(found[:, :32], windows[:, :32])
    assert (np.ptp(found[:, 32:, 0], axis=1) == 0).all()
