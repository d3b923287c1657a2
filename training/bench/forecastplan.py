"""Plans of forecasting runs: data sets x look-backs x horizons x seeds of one student.

A plan of taught students (`bench-forecast-teach-*.toml`) has `teachers` too: every seed is trained
with each of them, so an interrupted plan still has pairs. With `teacher_seeds` each teacher is
trained that often, and every seed of the student learns from each of the trainings.

As in `training.bench.ledger`, a run is one training, its configuration is one flat TOML text, and
the digest of that text is its identity.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path

from training.bench.ledger import FORECAST_PLANS, TAUGHT_PLANS
from training.datasets.ett import ETT
from training.errors import LedgerError
from training.forecasting.recipe import (
    ForecastRecipe,
    format_forecast_recipe,
    parse_forecast_table,
)
from training.forecasting.teaching import TEACHERS, WITHOUT_LUCK
from training.recipes import read_table

__all__ = [
    "ForecastRun",
    "read_forecast_plan",
    "shipped_forecast_plans",
    "shipped_taught_plans",
]

_CONFIGS = Path(__file__).parent.parent / "configs"


@dataclass(frozen=True, slots=True)
class ForecastRun:
    """One training of a forecasting student.

    Attributes:
        student: Display name; the recipe defines the network.
        recipe: Complete recipe with data set, look-back, horizon and seed.
    """

    student: str
    recipe: ForecastRecipe

    @property
    def benchmark(self) -> str:
        """Name of the data set."""
        return self.recipe.data

    @property
    def config(self) -> str:
        """The run as one flat TOML, without keys that have their default."""
        head = f'student_name = "{self.student}"\n'
        return head + format_forecast_recipe(self.recipe, changed_only=True)

    @property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of `config`: the identity of the run."""
        return hashlib.sha256(self.config.encode("utf-8")).hexdigest()[:16]


def read_forecast_plan(path: Path) -> list[ForecastRun]:
    """Read all runs of a plan: the seeds of one cell follow each other, first seeds first.

    Raises:
        RecipeError: The file is not TOML, or its recipe is invalid.
        LedgerError: A data set or a teacher is unknown, or a key is missing.
    """
    table = read_table(path)
    try:
        student = str(table.pop("student_name"))
        sets, lengths = list(table.pop("benchmarks")), list(table.pop("lengths"))
        horizons, seeds = list(table.pop("horizons")), list(table.pop("seeds"))
        teachers = list(table.pop("teachers", [table.pop("teacher", "none")]))
        trainings = list(table.pop("teacher_seeds", [0]))
    except (KeyError, TypeError) as exc:
        msg = (
            f"{path}: a forecast plan needs student_name, benchmarks, lengths, horizons and seeds "
            f"({exc} is missing)"
        )
        raise LedgerError(msg) from exc
    if unknown := [one for one in sets if one not in ETT]:
        msg = f"{path}: benchmarks has {unknown[0]!r}, expected names of {', '.join(ETT)}"
        raise LedgerError(msg)
    if unknown := [one for one in teachers if one not in TEACHERS]:
        msg = f"{path}: teachers has {unknown[0]!r}, expected names of {', '.join(TEACHERS)}"
        raise LedgerError(msg)
    recipe = parse_forecast_table({"data": sets[0], **table})
    runs = [
        ForecastRun(
            student,
            dataclasses.replace(
                recipe,
                data=data,
                length=length,
                horizon=horizon,
                seed=seed,
                teacher=teacher,
                teacher_seed=0 if teacher in WITHOUT_LUCK else training,
            ),
        )
        for data in sets
        for length in lengths
        for horizon in horizons
        for training in trainings
        for seed in seeds
        for teacher in teachers
    ]
    return list(dict.fromkeys(runs))


def shipped_forecast_plans() -> list[Path]:
    """List the forecast plans of the repository, without taught students, ordered by name."""
    found = sorted(_CONFIGS.glob(f"{FORECAST_PLANS}*.toml"))
    return [path for path in found if not path.name.startswith(TAUGHT_PLANS)]


def shipped_taught_plans() -> list[Path]:
    """List the plans of taught students of the repository, ordered by name."""
    return sorted(_CONFIGS.glob(f"{TAUGHT_PLANS}*.toml"))
