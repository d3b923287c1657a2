"""Train a student of a task with labels, compare it, and publish it if it is better.

The training loads no language model: it learns from cached anchors. The official test sets are
never read.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import replace as changed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from models.artifact import Artifact
from models.describe import seen_range
from models.registry import Registry
from models.tasks.contract import Task
from models.tasks.registry import find_task
from training.baselines import judge_baselines
from training.centre import Centre
from training.claimedunits import require_claimed_units
from training.datasets.contract import DataSet
from training.datasets.enough import require_enough
from training.datasets.own import read_own
from training.datasets.own_description import is_own
from training.datasets.own_recipe import own_recipe, recipe_beside
from training.datasets.sources import find_source
from training.errors import DataSetError, MissingExtraError, RecipeError
from training.evaluate import Rival
from training.publication import Orders, conclude, find_rejected, require_publishable
from training.reasons import NO_REASON, When, look_for_reasons
from training.recipes import Recipe, format_recipe, read_recipe, shipped_recipe
from training.report import RunLog, print_comparison, print_table
from training.runfolder import default_folder, open_run_folder, out_of_time
from training.running import choose_name, find_running, print_running, title_of
from training.runpage import RunPage
from training.testpart import print_test_part

if TYPE_CHECKING:  # it needs torch, which --help does not
    from training.candidate import Candidate

__all__ = ["redistill_labelled"]


def redistill_labelled(
    console: Console,
    page: RunPage,
    task: Task,
    *,
    option: str,
    data: str,
    subset: str | None,
    registry: Path,
    publish: bool,
    despite_baselines: bool,
    with_test: bool,
    replace: bool,
    new_range: bool,
    min_gain: float | None,
    when: When,
    centre: Centre | None,
    name: str | None,
    out: Path | None,
    max_minutes: float | None,
    config: Path | None,
    **changes: Any,
) -> int:
    """Train, compare, publish; the arguments are the options of `train-redistill`.

    Returns:
        Exit code: 0, 3 (not better), 4 (out of time), 5 (published, but not released), 6 (held), 7
        (equal to a rejected version) or 8 (no reason).

    Raises:
        TrainingError: Wrong data or recipe; nothing is published.
        ModelError: The students cannot be compared; nothing is published.
    """
    try:
        from training import candidate as candidates
    except ModuleNotFoundError as exc:
        raise MissingExtraError(exc.name or "torch") from exc

    started_s = time.monotonic()
    deadline_s = started_s + (60 * max_minutes if max_minutes is not None else 1e12)
    subset = subset or "FD001"
    own = is_own(Path(data))
    if own:
        config = config or recipe_beside(Path(data))
        data_set = _read_own(console, Path(data))
        recipe = _own_recipe(data_set, config, task, changes)
    else:
        recipe = _read_recipe(task, config, **changes)
        data_set = _read_data(recipe, data, subset)
    models = Registry(registry)
    rival = find_running(
        models,
        task,
        data_set.stream,
        name,
        fits=(lambda shipped: _reads(shipped, data_set)) if own else (lambda shipped: True),
        reported=None if centre is None else centre.running(data_set.stream),
        warn=lambda text: console.print(text, soft_wrap=True, markup=False),
    )
    running = print_running(console, rival)
    page.describe_data(data_set)
    page.describe_running(rival)
    page.reasons = look_for_reasons(console, when, running, data_set.digest, page.began_ms)
    if page.reasons == []:
        return NO_REASON
    if data != "dummy":  # made-up readings have no unit
        seen = seen_range(data_set.train.windows)
        require_claimed_units(data_set.title, data_set.channels, seen, running, new_range=new_range)
    name = name or choose_name(option, data_set.name, data_set.title, running, is_own=own)
    orders = Orders(models, publish, replace, centre, min_gain)
    require_publishable(orders, data_set.stream, name)
    if config is None:
        recipe = _with_split_of(running, data_set, recipe)
    if own:
        lacking = require_enough(data_set, recipe, publish=publish)
        for sentence in lacking:
            console.print(sentence, soft_wrap=True, markup=False)
    fairness = candidates.check_comparable(running, data_set, recipe) if running else None
    text = format_recipe(recipe)
    folder = (out or default_folder(option, text, data_set.digest)).absolute()
    with open_run_folder(folder, text, console):
        page.open(folder)
        console.print(
            f"{data_set.title}: {len(data_set.train)} windows; run folder {folder}", soft_wrap=True
        )
        log = RunLog(folder / "log.jsonl", console, recipe.epochs * recipe.trainings)
        with log:
            candidate = candidates.train_candidate(
                data_set,
                recipe,
                name,
                folder,
                command=_describe_command(option, task, data, subset),
                on_epoch=log.add,
                deadline_s=deadline_s,
            )
        if candidate is None:
            return out_of_time(console, folder, max_minutes)
        baselines: Sequence[Rival] = ()
        if own:
            baselines = judge_baselines(data_set, recipe, candidate.held_out, candidate.scored)
        code = _conclude(
            console,
            log,
            page,
            orders,
            candidate,
            running,
            fairness,
            data_set,
            baselines,
            despite_baselines,
        )
    if own and with_test:
        print_test_part(console, Path(data), recipe, candidate)
    console.print(
        f"{time.monotonic() - started_s:.0f} s from reading the data to the end, "
        f"{candidate.seconds:.0f} s of them training."
    )
    return code


def _conclude(
    console: Console,
    log: RunLog,
    page: RunPage,
    orders: Orders,
    candidate: Candidate,
    running: Artifact | None,
    fairness: str | None,
    data_set: DataSet,
    baselines: Sequence[Rival],
    despite_baselines: bool,
) -> int:
    from models.session import Student
    from training.candidate import compare
    from training.starters.latency import measure_latency

    champion = None if running is None else compare(running, candidate, title_of(running))
    students = [] if champion is None else [champion]
    _write_plot(log.path.parent / "result.png", log, candidate, data_set)
    old_metrics = {} if champion is None else champion.measures
    print_table(console, candidate, running, old_metrics, data_set, baselines)
    if students or baselines:
        print_comparison(console, [*students, *baselines], data_set)
    page.fairness = fairness or ""
    if fairness is not None:
        console.print(f"Fairness: {fairness}.", soft_wrap=True, markup=False)
    if baselines and despite_baselines:
        console.print("The baselines do not count: --despite-baselines.")
    calibration = candidate.artifact.manifest.metrics.get("calibration", {})
    if calibration:
        measures = ", ".join(f"{key} {value:.4g}" for key, value in calibration.items())
        console.print(f"Calibration on these windows: {measures}.", soft_wrap=True)
    latency = measure_latency(Student(candidate.artifact), candidate.held_out.windows[:100])
    console.print(
        f"One window takes {latency['p50_ms']:.3f} ms (p50), {latency['p99_ms']:.3f} ms (p99)."
    )
    name = candidate.artifact.manifest.name
    rejected = find_rejected(
        orders.registry, name, lambda artifact: compare(artifact, candidate, "rejected")
    )
    measured = {
        "result": candidate.metrics,
        "baselines": {one.name: one.measures for one in baselines} or None,
        "unbeaten": [one.name for one in baselines if not one.comparison.is_better],
        "training_seconds": round(candidate.seconds, 1),
        "calibration": calibration or None,
        **latency,
    }
    rivals = students if despite_baselines else [*students, *baselines]
    return conclude(
        console, log, page, orders, candidate.artifact, running, rivals, rejected, measured
    )


def _write_plot(path: Path, log: RunLog, candidate: Candidate, data_set: DataSet) -> None:
    from training.plots import write_plot

    losses, curve = log.curve()
    write_plot(path, losses, curve, candidate.held_out.labels, candidate.scored, data_set)


def _reads(shipped: Artifact, data_set: DataSet) -> bool:
    """Whether a shipped student reads the windows of own data."""
    manifest = shipped.manifest
    return (manifest.channels, manifest.window.length, manifest.rate_hz) == (
        data_set.channels,
        data_set.length,
        data_set.rate_hz,
    )


def _read_own(console: Console, path: Path) -> DataSet:
    found = read_own(path)
    for note in found.notes:
        console.print(note, soft_wrap=True, markup=False)
    return found.data


def _own_recipe(data: DataSet, config: Path | None, task: Task, changes: dict[str, Any]) -> Recipe:
    if config is not None:
        return _read_recipe(task, config, **changes)
    groups = len(np.unique(data.train.groups))
    recipe = own_recipe(data.task, windows=len(data.train), groups=groups)
    return changed(recipe, **{key: value for key, value in changes.items() if value is not None})


def _read_data(recipe: Recipe, path: str, subset: str) -> DataSet:
    if path == "dummy":
        from training.datasets.dummy import make_dummy

        return make_dummy(recipe.task)
    if not Path(path).exists():
        msg = f"no such file or folder: {path}: check --data, or use --data dummy"
        raise DataSetError(msg)
    source = find_source(recipe.task)
    if source is None:
        msg = f"there is no data reader for task {recipe.task}: use --data dummy"
        raise DataSetError(msg)
    return source.read(Path(path), subset, recipe, False)


def _read_recipe(task: Task, config: Path | None, **changes: Any) -> Recipe:
    source = find_source(task.name)
    if config is None:
        if source is None:
            msg = f"task {task.name} has no starter recipe: choose one with --config"
            raise RecipeError(msg)
        # A starter is calibrated once, a student of one's own on every run: five more trainings.
        return shipped_recipe(source.starter, calibration_folds=0, **changes)
    recipe = read_recipe(config, **changes)
    if find_task(recipe.task) is not task:
        msg = f"{config} is a recipe for {recipe.task}, not for {task.name}: change one of them"
        raise RecipeError(msg)
    return recipe


def _with_split_of(running: Artifact | None, data_set: DataSet, recipe: Recipe) -> Recipe:
    """Take over the split of a running student that was trained on these data."""
    from training.candidate import recipe_of

    trained = recipe_of(running) if running else None
    if running and trained and running.manifest.lineage.data_digest == data_set.digest:
        return changed(recipe, split_seed=trained.split_seed, hold_out=trained.hold_out)
    return recipe


def _describe_command(option: str, task: Task, data: str, subset: str) -> str:
    """Describe the command for the lineage, without folders of this machine."""
    arguments = ["train-redistill", "--task", option, "--data", Path(data).name]
    source = find_source(task.name)
    has_subsets = source is not None and source.has_subsets and not is_own(Path(data))
    return shlex.join([*arguments, "--subset", subset] if has_subsets else arguments)
