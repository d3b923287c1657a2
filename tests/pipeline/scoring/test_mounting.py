"""How a sensor is mounted: measured, kept, and applied to each window of its device only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.artifact import read_artifact
from models.manifest import Manifest
from models.zoo import zoo_path
from pipeline.errors import MountingError
from pipeline.scoring.mounting import FILE_NAME, Mounting, Mountings, find_mounting
from pipeline.windows.devices import StreamPlan
from pipeline.windows.spec import WindowSpec
from pipeline.windows.windowbatch import WindowBatch

DEVICE = ("lab", "ada", "imu")
CHANNELS = ("acc_x", "acc_y", "acc_z", "hum")
QUARTER = ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))  # x to y
MOUNTING = Mounting(QUARTER, (("acc_x", "acc_y", "acc_z"),), 1, 90.0)


def plan(stream: str) -> StreamPlan | None:
    spec = WindowSpec(length=2, hop=1)
    return StreamPlan("m", CHANNELS, spec) if stream == "imu" else None


def closed(*devices: str) -> WindowBatch:
    values = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], dtype=np.float32)
    twos = np.full(len(devices), 2)
    return WindowBatch(
        stream="imu",
        senders=[("lab", device) for device in devices],
        partition=np.zeros(len(devices), dtype=np.int32),
        values=np.stack([values] * len(devices)),
        start_ms=0 * twos,
        end_ms=twos,
        readings=twos,
        gaps=0 * twos,
        recv_ms=twos,
        made_up=np.zeros(len(devices)),
    )


@pytest.fixture
def waist() -> Manifest:
    return read_artifact(zoo_path("har-waist")).manifest


def rotation(axis: tuple[float, float, float], degrees: float) -> NDArray[np.float64]:
    x, y, z = np.array(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)


def recording(manifest: Manifest, worn: NDArray[np.float64], noise: float = 0.01) -> NDArray:
    """Five seconds of standing, then ten of a movement; the last vector holds gravity."""
    assert manifest.seen is not None
    rng = np.random.default_rng(0)
    values = rng.normal(0, noise, (750, 3, 3))
    values[250:] += rng.normal(0, 0.4, (500, 3, 3))
    values[:, 2] += np.array(manifest.seen.middle[6:])
    return (values @ worn.T).reshape(750, 9).astype(np.float32)


def test_a_window_of_a_mounted_device_is_turned_and_no_other(tmp_path: Path) -> None:
    mountings = Mountings(tmp_path, plan)
    both = [closed("ada", "bob", "ada"), closed("bob")]
    assert mountings.turn(both) is both
    Mountings(tmp_path, plan).put(DEVICE, MOUNTING)  # another process
    ada, bob = mountings.turn(both)
    for at in (0, 2):
        np.testing.assert_array_equal(ada.values[at], [[-2, 1, 3, 4], [-6, 5, 7, 8]])
    assert bob is both[1]
    assert both[0].values[0, 0, 0] == ada.values[1, 0, 0] == 1
    assert (ada.senders, ada.end_ms.tolist()) == (both[0].senders, [2, 2, 2])
    assert mountings.remove(DEVICE)
    assert not mountings.remove(DEVICE)
    assert mountings.turn(both) is both


def test_a_student_with_other_channels_gets_its_windows_as_they_come(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    odd = Mounting(QUARTER, (("acc_x", "acc_y", "gone"),), 1, 90.0)
    mountings = Mountings(tmp_path, plan)
    mountings.put(DEVICE, odd)
    windows = closed("ada")
    for _ in range(3):
        (turned,) = mountings.turn([windows])
        np.testing.assert_array_equal(turned.values, windows.values)
    assert caplog.text.count("run `kpstream mount` again") == 1


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b'{"devices": 1}',
        b'{"devices": {"a/b/c": {"rotation": [[1,0,0],[0,1,0],[0,0,2]], "vectors": [], '
        b'"at_ms": 1, "tilt_deg": 0, "heading_deg": 0}}}',
    ],
)
def test_a_damaged_file_leaves_the_mountings_as_they_are(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    mountings = Mountings(tmp_path, plan)
    mountings.put(DEVICE, MOUNTING)
    assert dict(mountings.read()) == {DEVICE: MOUNTING}
    (tmp_path / FILE_NAME).write_bytes(content)
    assert dict(mountings.read()) == {DEVICE: MOUNTING}
    assert "the mountings stay as they are" in caplog.text
    with pytest.raises(MountingError, match="move the file away"):
        mountings.put(DEVICE, MOUNTING)


@pytest.mark.parametrize("degrees", [0, 15, 30, 90, 179])
@pytest.mark.parametrize("axis", [(0.0, 1.0, 0.0), (0.3, -1.0, 2.0)])
def test_gravity_is_taken_to_where_the_student_knows_it(
    waist: Manifest, axis: tuple[float, float, float], degrees: int
) -> None:
    assert waist.seen is not None
    values = recording(waist, rotation(axis, degrees))
    found = find_mounting(values, values[:0], waist, None, 7, still=100)
    turned = found.turn(values, waist.channel_names)
    assert turned is not None
    felt, known = turned[:250, 6:].mean(axis=0), np.array(waist.seen.middle[6:])
    cosine = felt @ known / np.linalg.norm(felt) / np.linalg.norm(known)
    assert cosine == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(  # no vector is stretched
        np.linalg.norm(turned.reshape(750, 3, 3), axis=2),
        np.linalg.norm(values.reshape(750, 3, 3), axis=2),
        rtol=1e-4,
    )
    assert found.heading_deg == 0


def test_the_heading_is_the_one_by_which_walking_is_surest(waist: Manifest) -> None:
    values = recording(waist, np.eye(3))
    windows = np.stack([values[at : at + 128] for at in range(250, 600, 64)])
    walking = [label.lower() for label in waist.decoding.labels].index("walking")
    straight = find_mounting(values, windows, waist, None, 7, still=100)
    forward = straight.turn(windows, waist.channel_names)
    assert forward is not None

    def scores(raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Surest where the first vector points a quarter turn further than it came."""
        wanted = forward[:, :, :3] @ rotation(waist.seen.middle[6:], 90).T  # type: ignore[union-attr]
        apart = np.abs(raw[:, :, :3] - wanted).mean(axis=(1, 2))
        found = np.full((len(raw), 6), 0.01, dtype=np.float32)
        found[:, walking] = np.exp(-5 * apart)
        return found

    found = find_mounting(values, windows, waist, scores, 7, still=100)
    assert found.heading_deg == 90
    same = find_mounting(
        values, windows, waist, lambda raw: np.full((len(raw), 6), 0.2, np.float32), 7, still=100
    )
    assert same.heading_deg == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda values: values[:150], "150 readings are too few"),
        (lambda values: values * 9.81, "correct the unit"),
        (
            lambda values: (
                values + np.random.default_rng(1).normal(0, 0.3, values.shape).astype(np.float32)
            ),
            "never still",
        ),
    ],
)
def test_what_cannot_be_measured_is_said(waist: Manifest, change: object, said: str) -> None:
    values = change(recording(waist, np.eye(3)))  # type: ignore[operator]
    with pytest.raises(MountingError, match=said):
        find_mounting(values, values[:0], waist, None, 7, still=100)


def test_a_manifest_from_before_the_lengths_asks_for_a_newer_one(waist: Manifest) -> None:
    assert waist.seen is not None
    seen = waist.seen.model_copy(update={"least_spread": None, "lengths": None})
    older = waist.model_copy(update={"seen": seen})
    values = recording(waist, np.eye(3))
    with pytest.raises(MountingError, match="kpstream models add har-waist"):
        find_mounting(values, values[:0], older, None, 7, still=100)


def test_a_student_without_gravity_has_no_mounting() -> None:
    manifest = read_artifact(zoo_path("rul-fd001")).manifest
    values = np.ones((500, 14), dtype=np.float32)
    with pytest.raises(MountingError, match="no acceleration with gravity"):
        find_mounting(values, values[:0], manifest, None, 7, still=100)
