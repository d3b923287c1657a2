"""How well a shipped student of activities answers when its sensor is worn otherwise.

    python -m training.bench.turns --data DATA_FOLDER --only har-waist

Each window of the official test people is turned about the vertical of the body, or tilted about a
random axis at right angles to it. The vertical is the usual direction of gravity, that of somebody
upright: a phone that is turned in its holder feels gravity elsewhere when its wearer lies down. The
student is not changed.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from models.artifact import read_artifact
from models.errors import ModelError
from models.session import Student
from models.tasks.activity import macro_f1
from models.zoo import zoo_path
from training.errors import TrainingError
from training.export.artifact import score_raw
from training.starters.build import STUDENTS, read_data

__all__ = ["TURNS_DEG", "macro_f1_worn", "tilted", "turned", "vertical_of"]

TURNS_DEG = (0, 15, 30, 90, 180)
"""Angles of the table."""
_SURE = 0.9


def turned(windows: NDArray[np.float32], angle_deg: float, seed: int = 0) -> NDArray[np.float32]:
    """Turn each window about the vertical of the body by the angle, in a random sense.

    Args:
        windows: Raw windows `[n, length, channels]`; the channels are triples (x, y, z), one of
            which is an acceleration with gravity.
        angle_deg: Degrees.
        seed: Seed of the senses.
    """
    sense = np.where(np.random.default_rng(seed).random(len(windows)) < 0.5, -1.0, 1.0)
    axis = np.broadcast_to(vertical_of(windows), (len(windows), 3))
    return _rotated(windows, axis, np.radians(angle_deg) * sense)


def tilted(windows: NDArray[np.float32], angle_deg: float, seed: int = 0) -> NDArray[np.float32]:
    """Tilt each window by the angle about a random level axis; arguments as in `turned`."""
    vertical = vertical_of(windows)
    axis = np.random.default_rng(seed).normal(size=(len(windows), 3))
    axis -= (axis @ vertical)[:, None] * vertical
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    return _rotated(windows, axis, np.full(len(windows), np.radians(angle_deg)))


def vertical_of(windows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Unit vector of gravity for somebody upright, `[3]`: the longest median of three channels."""
    means = windows.astype(np.float64).mean(axis=1).reshape(len(windows), -1, 3)
    medians = np.median(means, axis=0)
    found = medians[np.linalg.norm(medians, axis=1).argmax()]
    vertical: NDArray[np.float64] = found / np.linalg.norm(found)
    return vertical


def macro_f1_worn(
    student: Student, windows: NDArray[np.float32], labels: NDArray[np.int64]
) -> tuple[float, float]:
    """Macro-F1, and the share of windows that are wrong with a probability above 0.9."""
    probabilities = score_raw(student, windows)
    winners = probabilities.argmax(axis=1)
    wrong = (winners != labels) & (probabilities.max(axis=1) > _SURE)
    return macro_f1(labels, winners, probabilities.shape[1]), float(np.mean(wrong))


def _rotated(
    windows: NDArray[np.float32], axis: NDArray[np.float64], angle: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Rotate all triples of channels of each window about its axis (Rodrigues' formula)."""
    zero = np.zeros(len(axis))
    x, y, z = axis.T
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=1).reshape(-1, 3, 3)
    sine, cosine = (part[:, None, None] for part in (np.sin(angle), np.cos(angle)))
    turn = np.eye(3) + sine * cross + (1 - cosine) * (cross @ cross)
    triples = windows.reshape(*windows.shape[:2], -1, 3)
    rotated: NDArray[np.float32] = np.einsum("nlcj,nij->nlci", triples, turn)
    return rotated.reshape(windows.shape).astype(np.float32)


@click.command(context_settings={"show_default": True})
@click.option(
    "--data", type=click.Path(path_type=Path, exists=True), required=True, help="Data folder."
)
@click.option(
    "--only",
    "name",
    type=click.Choice([name for name in STUDENTS if name.startswith("har-")]),
    default="har-waist",
    help="Starter student.",
)
def main(data: Path, name: str) -> None:
    """Print macro-F1 on the official test people for each way of wearing the sensor."""
    try:
        found = read_data(name, data, with_test=True)
        student = Student(read_artifact(zoo_path(name)))
    except (TrainingError, ModelError) as exc:
        raise click.ClickException(str(exc)) from exc
    if found.test is None:
        msg = f"{found.title} has no test people"
        raise click.ClickException(msg)
    test = found.test
    for word, change in (("turned", turned), ("tilted", tilted)):
        for angle in TURNS_DEG:
            f1, wrong = macro_f1_worn(student, change(test.windows, angle), test.labels)
            click.echo(
                f"{word} by {angle:3} degrees: macro-F1 {f1:.3f}, sure and wrong {wrong:.1%}"
            )


if __name__ == "__main__":
    main()
