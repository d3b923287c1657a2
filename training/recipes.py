"""The recipe of one training run: one flat TOML, nothing hidden elsewhere.

The recipes that made the starter students are in training/configs; a run copies its recipe into
the lineage of the artifact, so `read_recipe` of a published student trains it again.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from training.errors import RecipeError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "Recipe",
    "format_recipe",
    "parse_recipe",
    "parse_table",
    "read_recipe",
    "read_table",
    "shipped_recipe",
]


_STUDENTS = ("bilstm", "conv", "penet", "residual", "spectral", "statistics", "trend")


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that a run depends on besides the data. Every field is a key of the TOML file."""

    task: str
    """`rul` or `activity`."""
    method: str = "kp"
    """`kp` (Knowledge Pruning from cached anchors), `none` (the same student, plain head), or
    `ensemble` (plain head, taught by an ensemble of larger networks)."""
    anchors: str = "text"
    """`text`: from the text encoder's cache. Controls: `random` directions, `onehot` (a free
    table), `ordinal` (thermometer code of the number, RUL), `permuted` (text, wrong answers),
    `centred`, `ordered`, `ordered-random`, `attributes`: see
    `training.teachers.anchors.control_anchors`."""
    prompts: str = ""
    """Whose anchors (key of `training.teachers.prompts.PROMPTS`); empty: `rul`, or `activity` (UCI
    HAR)."""
    student: str = "conv"
    """`conv`: plain convolutions; `residual`: dilated residual blocks and attention over time;
    `spectral`: convolutions beside the spectrum and statistics of the window; `statistics`: means,
    slopes and extremes of a window's newest readings; `trend`: convolutions beside those; `bilstm`
    and `penet`: those of the literature (the body of `penet` is that of `conv`)."""
    length: int = 0
    """Readings in a window (RUL); 0: what the data set is usually cut into (30)."""
    conditions: bool = False
    """Read the operating settings too and scale per condition inside the graph (RUL)."""
    conv_channels: tuple[int, ...] = (32, 64, 64)
    """Output channels of the convolutions; one entry per convolution."""
    kernels: tuple[int, ...] = (5, 3, 3)
    """Kernel sizes (odd), padded to keep the length."""
    strides: tuple[int, ...] = (1, 2, 2)
    """Strides."""
    pooling: str = "flatten"
    """`flatten` keeps the time steps apart; `mean_max` pools them and costs fewer weights."""
    feature_size: int = 64
    """Width d of the feature vector that is compared with the anchors."""
    hidden_size: int = 64
    """Width of the dense layer before the feature (`statistics` and `trend` only)."""
    members: int = 1
    """Students of this make in one graph; the score is the mean of theirs."""
    dropout: float = 0.2
    """Share of features dropped before and after the last dense layer, while training."""
    learn_alpha: bool = True
    """False keeps alpha at 1/0.07 (an ablation)."""
    trim: float = 0.1
    """Anchor voting drops the least likely anchors up to this mass (RUL only)."""
    prior_correction: float = 1.0
    """How much of the label frequencies the graph puts back; 0 is the published inference."""
    loss: str = "squared"
    """Of the plain head of RUL: `squared`, or `huber` (linear from 0.1 max_rul on)."""
    label_smoothing: float = 0.0
    """Only for the plain head of `activity`."""
    teacher_epochs: int = 0
    """Passes of the ensemble's members; 0: as many as the student's."""
    epochs: int = 30
    """Passes over the training windows."""
    batch_size: int = 128
    """Windows per step."""
    learning_rate: float = 1e-3
    """Peak rate of Adam; a short linear warm-up, then a cosine down to zero."""
    weight_decay: float = 1e-4
    """Decoupled weight decay (AdamW)."""
    average_decay: float = 0.998
    """The student that is exported is the moving average of the weights with this decay."""
    noise: float = 0.0
    """Deviation of the Gaussian noise added to scaled windows while training."""
    scale_jitter: float = 0.0
    """Deviation of one random gain per window (activity)."""
    offset_jitter: float = 0.0
    """Deviation of one random offset per window and channel, on scaled windows."""
    rotation_deg: float = 0.0
    """Deviation of a random rotation of the sensor per window, degrees (activity)."""
    truncation: float = 0.0
    """Share of windows that are cut in front to a random length, at least 30 readings, and padded
    as the stream pads (RUL): else padding would tell the student that an engine is young."""
    hold_out: float = 0.2
    """Share of groups (engines, persons) held out for validation and for the comparison."""
    calibrate: bool = False
    """Activity: fit a temperature and the threshold of the unknown to the held-out windows. RUL
    always has its interval."""
    folds: int = 0
    """From 2 on: every group is scored by a student that has not seen its fold; that calibrates and
    measures the recipe, and the student that is exported learns from all groups. 0: hold out."""
    split_seed: int = 0
    """Seed of that draw; the same for all students that are to be compared."""
    seed: int = 0
    """Seed of weights, batches, dropout and augmentation."""

    def __post_init__(self) -> None:
        allowed = {
            "task": ("rul", "activity"),
            "method": ("kp", "none", "ensemble"),
            "anchors": (
                "text",
                "random",
                "onehot",
                "ordinal",
                "permuted",
                "centred",
                "ordered",
                "ordered-random",
                "attributes",
            ),
            "student": _STUDENTS,
            "loss": ("squared", "huber"),
            "pooling": ("flatten", "mean_max"),
        }
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                msg = f"recipe: {name} is {getattr(self, name)!r}, expected one of {values}"
                raise RecipeError(msg)
        if not 0 < len(self.conv_channels) == len(self.kernels) == len(self.strides):
            msg = "recipe: conv_channels, kernels and strides need one entry per convolution each"
            raise RecipeError(msg)
        if any(kernel % 2 == 0 for kernel in self.kernels):
            msg = f"recipe: kernels must be odd, got {self.kernels}"
            raise RecipeError(msg)
        sizes = (self.feature_size, self.hidden_size, self.members, *self.conv_channels)
        if min(self.epochs, self.batch_size, *sizes) < 1:
            msg = "recipe: epochs, batch_size, members and all sizes must be positive"
            raise RecipeError(msg)
        if self.folds == 1 or self.folds < 0:
            msg = f"recipe: folds is {self.folds}: 0 to hold out groups, or at least 2"
            raise RecipeError(msg)
        for_rul = self.length or self.conditions or self.truncation
        if self.length < 0 or (self.task != "rul" and for_rul):
            msg = "recipe: length (from 1), conditions and truncation are for task rul only"
            raise RecipeError(msg)
        if self.anchors.startswith("ord") and self.task != "rul":
            msg = f"recipe: activities have no order, so anchors cannot be {self.anchors}"
            raise RecipeError(msg)
        if not 0 < self.hold_out < 1 or not 0 <= self.dropout < 1 or not 0 <= self.trim < 1:
            msg = "recipe: hold_out lies in (0, 1), dropout and trim in [0, 1)"
            raise RecipeError(msg)


def parse_recipe(text: str, **changes: Any) -> Recipe:
    """Build a recipe from flat TOML; `changes` that are not None replace what the file says.

    Raises:
        RecipeError: not TOML, an unknown key, a wrong type, or an impossible value.
    """
    return parse_table(_parse_toml(text), **changes)


def parse_table(table: dict[str, Any], **changes: Any) -> Recipe:
    """Build a recipe from the keys and values of a TOML file; see `parse_recipe`."""
    table = table | {key: value for key, value in changes.items() if value is not None}
    known = {field.name: field.type for field in fields(Recipe)}
    if unknown := sorted(set(table) - set(known)):
        msg = f"recipe: unknown key {unknown[0]!r}; known: {', '.join(known)}"
        raise RecipeError(msg)
    if "task" not in table:
        msg = "recipe: the key 'task' is missing (rul or activity)"
        raise RecipeError(msg)
    return Recipe(**{key: _typed(key, str(known[key]), value) for key, value in table.items()})


def read_recipe(path: Path, **changes: Any) -> Recipe:
    """Read a recipe from a file; see `parse_recipe`."""
    return parse_table(read_table(path), **changes)


def read_table(path: Path) -> dict[str, Any]:
    """Keys and values of a TOML file.

    Raises:
        RecipeError: no such file, or not TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        msg = f"recipe: cannot read {path}: {exc}"
        raise RecipeError(msg) from exc
    return _parse_toml(text)


def shipped_recipe(name: str, **changes: Any) -> Recipe:
    """The recipe of a starter student: `rul-fd001` or `har-waist`."""
    return read_recipe(Path(__file__).parent / "configs" / f"{name}.toml", **changes)


def format_recipe(recipe: Recipe, *, changed_only: bool = False) -> str:
    """The recipe as flat TOML; `parse_recipe(format_recipe(r)) == r`.

    With `changed_only`, keys that have their default are left out: a text that stays the same when
    a later version of the product knows more keys.
    """
    defaults = {field.name: field.default for field in fields(Recipe)}
    return "".join(
        f"{key} = {_toml(value)}\n"
        for key, value in dataclasses.asdict(recipe).items()
        if not (changed_only and value == defaults[key])
    )


def _parse_toml(text: str) -> dict[str, Any]:
    try:
        return dict(tomllib.loads(text))
    except tomllib.TOMLDecodeError as exc:
        msg = f"recipe: not TOML: {exc}"
        raise RecipeError(msg) from exc


def _typed(key: str, kind: str, value: Any) -> Any:
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind.startswith("tuple"):
        if isinstance(value, (list, tuple)) and all(type(entry) is int for entry in value):
            return tuple(value)
    elif type(value).__name__ == kind:
        return value
    msg = f"recipe: {key} = {value!r} is not of type {kind}"
    raise RecipeError(msg)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return repr(value)
