import numpy as np
import pytest

from models.artifact import read_artifact
from models.describe import describe_seen
from models.dummy import dummy_draft
from models.manifest import Channel, Draft
from models.seen import Seen
from models.tasks.quality import is_doubtful
from models.zoo import list_zoo, zoo_path
from pipeline.scoring.quality import QualityCheck, QualityChecks


def learned() -> tuple[np.ndarray, Draft]:
    """Windows of a temperature in K, a pressure, a count that may stand still, and gravity."""
    random = np.random.default_rng(0)
    shape = (400, 40)
    tilt = random.uniform(0, np.pi, (400, 1)) + random.normal(0, 0.05, shape)
    turn = random.uniform(0, 2 * np.pi, (400, 1)) + random.normal(0, 0.05, shape)
    windows = np.stack(
        [
            random.uniform(290, 310, (400, 1)) + random.normal(0, 0.5, shape),
            random.uniform(1.0, 1.2, (400, 1)) + random.normal(0, 0.01, shape),
            np.full(shape, 3.0),
            9.81 * np.sin(tilt) * np.cos(turn),
            9.81 * np.sin(tilt) * np.sin(turn),
            9.81 * np.cos(tilt),
        ],
        axis=2,
    ).astype(np.float32)
    names = ("T", "p", "n", "acc_x", "acc_y", "acc_z")
    units = ("K", "bar", "furlong", "m/s2", "m/s2", "m/s2")
    seen = describe_seen(windows, np.arange(400) // 40, 20, names)
    draft = dummy_draft("rul")
    content = {name: getattr(draft, name) for name in Draft.model_fields}
    content |= {
        "channels": tuple(Channel(name=n, unit=u) for n, u in zip(names, units, strict=True)),
        "scaler": {"kind": "affine", "scale": (1.0,) * 6, "offset": (0.0,) * 6},
        "rate_hz": 50.0,
        "seen": seen,
    }
    return windows, Draft(**content)


WINDOWS, DRAFT = learned()
CHECK = QualityCheck(DRAFT)


def flags(change=lambda windows: windows, count: int = 5) -> list[str]:
    return CHECK.flags(change(WINDOWS[:count].copy()))


def changed(place, function):
    def change(windows):
        windows[:, :, place] = function(windows[:, :, place])
        return windows

    return change


def test_windows_of_training_are_good():
    assert set(CHECK.flags(WINDOWS)) == {"good"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (changed(0, lambda t: t - 273.15), "unit: T (degC)"),
        (changed(0, lambda t: t * 9 / 5 - 459.67), "unit: T (degF)"),
        (changed(0, lambda t: t + 60), "range: T"),
        (changed(1, lambda p: p * 1e5), "unit: p (Pa)"),
        (changed(2, lambda n: n + 40), "range: n"),
        (changed([3, 4, 5], lambda a: a / 9.80665), "unit: acc_x (g), acc_y (g), acc_z (g)"),
        (changed([3, 4, 5], lambda a: a * 1.7), "range: acc_x, acc_y, acc_z"),
        (changed(1, lambda p: p[:, :1]), "constant: p"),
        (
            lambda windows: np.full_like(windows, 20.0),
            "range: T, p, n, acc_x, acc_y, acc_z; constant: T, p, acc_x, acc_y, acc_z",
        ),
    ],
)
def test_readings_that_training_never_saw_are_flagged_by_channel(change, expected):
    assert set(flags(change)) == {expected}


def test_a_channel_that_stood_still_in_training_may_do_so():
    assert DRAFT.seen.least_spread[2] == 0
    assert flags(changed(2, lambda n: n)) == ["good"] * 5


def test_only_the_windows_concerned_are_flagged():
    windows = WINDOWS[:4].copy()
    windows[2, :, 0] += 60
    assert CHECK.flags(windows) == ["good", "good", "range: T", "good"]


def test_one_reading_a_little_outside_is_no_flag_and_several_or_one_far_off_are():
    low, high = DRAFT.seen.low[0], DRAFT.seen.high[0]
    width = high - low

    def with_readings(number: int, away: float) -> str:
        windows = WINDOWS[:1].copy()
        windows[0, :, 0] = high - np.linspace(0.1, 0.3, 40) * width
        windows[0, :number, 0] = high + away * width
        return CHECK.flags(windows)[0]

    assert with_readings(2, 0.8) == "good"  # 5 % of 40
    assert with_readings(3, 0.8) == "range: T"
    assert with_readings(1, 1.1) == "range: T"
    assert with_readings(9, 0.4) == "good"


def test_a_unit_is_not_named_if_several_explain_the_readings():
    seen = Seen(low=(0.0,), middle=(500.0,), high=(1000.0,), least_spread=(1.0,))
    wide = DRAFT.model_copy(
        update={"channels": (Channel(name="v", unit="m/s"),), "seen": seen, "rate_hz": None}
    )
    windows = np.linspace(5e3, 6e3, 40, dtype=np.float32)[None, :, None]
    assert QualityCheck(wide).flags(windows) == ["unit: v"]


def test_a_slow_rate_and_made_up_readings_are_flagged():
    rates = [np.nan, 50.0, 25.0, 24.0]
    assert CHECK.flags(WINDOWS[:4], np.array(rates), np.array([0.0, 0.5, 0.51, 0.9])) == [
        "good",
        "good",
        "made up",
        "rate; made up",
    ]


def test_a_window_that_its_student_finds_unfamiliar_is_flagged():
    said = np.array([False, True, True])
    found = CHECK.flags(WINDOWS[:3], made_up=np.array([0.0, 0.0, 0.9]), unfamiliar=said)
    assert found == ["good", "unfamiliar", "made up; unfamiliar"]
    bare = QualityCheck(DRAFT.model_copy(update={"seen": None}))
    assert bare.flags(WINDOWS[:3], unfamiliar=said) == ["good", "unfamiliar", "unfamiliar"]


def test_windows_with_the_same_signs_do_not_share_their_other_flags():
    windows, said = WINDOWS[:3].copy(), np.array([True, False, True])
    windows[:, :, 0] += 60
    check, both = QualityCheck(DRAFT), "range: T; rate; made up; unfamiliar"
    for _ in range(2):
        rates, made_up = np.where(said, 10.0, 50.0), np.where(said, 0.9, 0.0)
        found = check.flags(windows, rates, made_up, said)
        assert found == [both, "range: T", both]


def test_flags_are_joined_in_a_fixed_order():
    windows = WINDOWS[:1].copy()
    windows[:, :, 0] -= 273.15
    windows[:, :, 1] = 1.1
    windows[:, :, 2] = 50
    assert CHECK.flags(windows, np.array([10.0]), np.array([0.6])) == [
        "unit: T (degC); range: n; constant: p; rate; made up"
    ]


def test_many_channels_are_shortened():
    count = 30
    draft = DRAFT.model_copy(
        update={
            "channels": tuple(Channel(name=f"c{i}", unit="-") for i in range(count)),
            "seen": Seen(low=(0.0,) * count, middle=(0.5,) * count, high=(1.0,) * count),
        }
    )
    found = QualityCheck(draft).flags(np.full((1, 40, count), 9.0, np.float32))
    assert found == ["range: c0, c1, c2, c3, c4, c5, c6, c7 and 22 more"]


def test_a_manifest_without_ranges_flags_nothing_of_the_readings():
    bare = DRAFT.model_copy(update={"seen": None})
    nonsense = np.full_like(WINDOWS[:2], 20.0)
    assert QualityCheck(bare).flags(nonsense, np.array([np.nan, 10.0])) == ["good", "rate"]


def test_a_manifest_with_ranges_alone_is_checked_for_them():
    seen = DRAFT.seen
    ranges = Seen(low=seen.low, middle=seen.middle, high=seen.high)
    old = QualityCheck(DRAFT.model_copy(update={"seen": ranges}))
    (found,) = old.flags(np.full_like(WINDOWS[:1], 20.0))
    assert found == "range: T, p, n, acc_x, acc_y, acc_z"  # not constant, because nobody knows


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 3e38])
def test_windows_that_are_not_finite_do_not_disturb_others(number):
    windows = WINDOWS[:3].copy()
    windows[1, 5, :] = number
    found = CHECK.flags(windows)
    assert [found[0], found[2]] == ["good", "good"]


def test_the_check_of_a_stream_is_kept_until_another_student_scores_it():
    checks = QualityChecks()
    first = checks.of(DRAFT)
    assert checks.of(DRAFT) is first
    other = DRAFT.model_copy(update={"version": 2})
    assert checks.of(other).manifest is other
    assert checks.of(DRAFT) is not first


@pytest.mark.parametrize("name", [n for n in list_zoo() if not n.startswith("forecast")])
def test_nonsense_is_doubtful_for_every_shipped_student(name):
    manifest = read_artifact(zoo_path(name)).manifest
    shape = (2, manifest.window.length, len(manifest.channels))
    for level in (0.0, 20.0, -1.0):
        (quality, _) = QualityCheck(manifest).flags(np.full(shape, level, np.float32))
        assert is_doubtful({"quality": quality})
        assert "unit" not in quality


def test_the_units_of_the_shipped_engines_are_known():
    manifest = read_artifact(zoo_path("rul-fd001")).manifest
    seen = manifest.seen
    random = np.random.default_rng(0)
    shape = (1, manifest.window.length, len(manifest.channels))
    low, high = np.array(seen.low), np.array(seen.high)
    windows = (low + random.uniform(0, 1, shape) * (high - low)).astype(np.float32)
    check = QualityCheck(manifest)
    assert check.flags(windows) == ["good"]
    kelvin = [place for place, channel in enumerate(manifest.channels) if channel.unit == "R"]
    windows[:, :, kelvin] /= 1.8
    assert check.flags(windows) == ["unit: T24 (K), T30 (K), T50 (K)"]
