"""`train-redistill`: train a student and publish it if it is better.

Tasks with labels learn from cached anchors; the forecast has its own way, in `redistill_forecast`.

Exit codes: 0 if the student was published, is better than the running student, or no student runs
yet; 2 for wrong usage or data, or if something cannot be written; 3 if it is not (clearly) better,
and nothing was published; 4 if the time was over: the same command continues; 5 if it was
published, but the centre could not release it; 6 if its name is held or pinned; 7 if it is equal
to a version that was rejected; 8 if --if-needed finds no reason to train; 130 after Ctrl-C, which
keeps the finished passes.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace as changed
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
import numpy as np
from rich.console import Console

from models.artifact import Artifact
from models.describe import seen_range
from models.errors import Held, ModelError, Rejected
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
from training.datasets.series_sources import is_description
from training.datasets.sources import find_source, find_task_by_option, option_of, task_options
from training.decision import HELD, REJECTED
from training.errors import DataSetError, MissingExtraError, RecipeError, TrainingError
from training.evaluate import Rival
from training.publication import Orders, conclude, find_rejected, require_publishable
from training.reasons import NO_REASON, When, has_reason
from training.recipes import (
    Recipe,
    format_recipe,
    labelled_tasks,
    read_recipe,
    shipped_recipe,
)
from training.report import RunLog, print_comparison, print_table
from training.runfolder import (
    INTERRUPTED,
    default_folder,
    open_run_folder,
    out_of_time,
)
from training.running import choose_name, find_running, print_running, title_of
from training.testpart import print_test_part

if TYPE_CHECKING:  # it needs torch, which --help does not
    from training.candidate import Candidate

__all__ = ["redistill"]


class _TaskOption(click.ParamType):
    """The value of --task, checked against the registry of tasks when the command runs."""

    name = "task"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return f"[{'|'.join(task_options())}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in task_options():
            self.fail(
                f"{value!r} is not one of {', '.join(map(repr, task_options()))}.", param, ctx
            )
        return str(value)


@click.command(
    context_settings={"show_default": True},
    epilog="train-redistill init --from DATA writes a first description and recipe for own data.",
)
@click.option(
    "--task",
    type=_TaskOption(),
    help="Task of the student; a description of own data (dataset.toml) says it by itself.",
)
@click.option(
    "--data",
    required=True,
    help="Description of own data or series (.toml); zip, tar or folder of a data set; or: dummy.",
)
@click.option(
    "--subset", help="C-MAPSS subset (task rul; by default FD001), or series of an archive: ETTh1."
)
@click.option(
    "--registry",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="KPSTREAM_GATEWAY_REGISTRY_DIR",
    default=Path.home() / ".local" / "state" / "kpstream" / "registry",
    help="Registry with the running student.",
)
@click.option("--publish", is_flag=True, help="Publish the new student if it is better.")
@click.option(
    "--despite-baselines",
    is_flag=True,
    help="Own data: publish even if a baseline (ridge, boosting) is as good as the student.",
)
@click.option("--with-test", is_flag=True, help="Own data: also print measures on the test part.")
@click.option(
    "--replace",
    is_flag=True,
    help="Retire the student of another name that scores the stream now.",
)
@click.option(
    "--min-gain",
    type=click.FloatRange(min=0),
    help="Smallest gain that matters, in the unit of the headline measure (RMSE: cycles); by "
    "default the noise of the measurement.",
)
@click.option("--if-needed", is_flag=True, help="Train only if there is a reason (exit code 8).")
@click.option(
    "--max-age-days",
    type=click.FloatRange(min=0),
    help="With --if-needed: age of the running student that is a reason.",
)
@click.option(
    "--drift",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="With --if-needed: results file of a gateway; its drift is a reason.",
)
@click.option(
    "--new-range",
    is_flag=True,
    help="Accept readings far from everything that the running student has learned from.",
)
@click.option(
    "--centre",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Compare with what the gateways of this centre run; with --publish, also release the "
    "student to them, step by step.",
)
@click.option(
    "--plan",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="With --centre and --publish: plan of the release (TOML).",
)
@click.option("--method", type=click.Choice(["kp", "none"]), help="Override the recipe's method.")
@click.option(
    "--anchors",
    type=click.Choice(["text", "random"]),
    help="Override the recipe's anchors (random: a control).",
)
@click.option("--seed", type=int, help="Override the recipe's seed.")
@click.option("--epochs", type=click.IntRange(min=1), help="Override the recipe's epochs.")
@click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Recipe (flat TOML); by default that of the starter or (forecast) running student.",
)
@click.option(
    "--name",
    help="Name of the student; by default that of the running one if both learned from the same "
    "data set, or else that of the data, such as rul-fd003.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the run (state, log, plot, artifact); by default "
    "~/.local/state/kpstream/runs/<task>-<digest of recipe and data>.",
)
@click.option(
    "--max-minutes",
    type=click.FloatRange(min=0),
    help="Stop after this time; the same command continues.",
)
def redistill(centre: Path | None, plan: Path | None, **options: Any) -> None:
    """Train a student and publish it if it beats the running one.

    The training loads no language model: Knowledge Pruning uses cached anchors. Both students are
    compared on the same held-out engines or persons of the training set, forecasts on held-out
    time; the official test set is never read.
    """
    if plan is not None and (centre is None or not options["publish"]):
        message = "--plan needs --centre and --publish"
        raise click.UsageError(message)
    options["centre"] = None if centre is None else Centre(centre, plan)
    when = When(*(options.pop(key) for key in ("if_needed", "max_age_days", "drift")))
    if when != When() and not when.if_needed:
        message = "--max-age-days and --drift need --if-needed"
        raise click.UsageError(message)
    options["when"] = when
    try:
        options["task"] = _choose_task(options["task"], options["data"])
        has_labels = find_task_by_option(options["task"]) in labelled_tasks()
        train = _redistill if has_labels else _redistill_forecast
        sys.exit(train(Console(), **options))
    except Held as exc:
        _fail(str(exc), HELD)
    except Rejected as exc:
        _fail(str(exc), REJECTED)
    except (TrainingError, ModelError) as exc:
        _fail(str(exc))
    except OSError as exc:  # a full disk, a registry without the right to write
        where = exc.filename or "a file of the run"
        _fail(
            f"{where}: {exc.strerror or exc}: nothing was published. Mend that and run the same "
            "command again: finished passes are kept"
        )
    except KeyboardInterrupt:
        click.echo("Stopped before the training began.", err=True)
        sys.exit(INTERRUPTED)


def _choose_task(option: str | None, data: str) -> str:
    """The value of --task, or the task that a description of own data names."""
    named = option_of(Path(data)) if is_description(data) else None
    if named is None and option is None:
        message = "Missing option '--task': only a description (.toml) says it by itself."
        raise click.UsageError(message)
    if named is not None and option not in (None, named):
        message = f"--task is {option}, but {data} is for {named}: leave --task out"
        raise click.UsageError(message)
    return str(named or option)


def _fail(message: str, code: int = 2) -> NoReturn:
    click.echo(f"train-redistill: {message}", err=True)
    sys.exit(code)


def _redistill_forecast(
    console: Console,
    *,
    task: str,
    method: str | None,
    anchors: str | None,
    seed: int | None,
    epochs: int | None,
    despite_baselines: bool,
    with_test: bool,
    **options: Any,
) -> int:
    from training.redistill_forecast import redistill_forecast

    for key, value in (("method", method), ("anchors", anchors)):
        if value is not None:
            msg = f"--{key} is for tasks with labels; task {task} has its settings in --config"
            raise RecipeError(msg)
    changes = {"seed": seed, "epochs": epochs}
    chosen = find_task_by_option(task)
    return redistill_forecast(console, chosen, option=task, changes=changes, **options)


def _redistill(
    console: Console,
    *,
    task: str,
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
    try:
        from training import candidate as candidates
    except ModuleNotFoundError as exc:
        raise MissingExtraError(exc.name or "torch") from exc

    started_s = time.monotonic()
    deadline_s = started_s + (60 * max_minutes if max_minutes is not None else 1e12)
    chosen = find_task_by_option(task)
    subset = subset or "FD001"
    own = is_own(Path(data))
    if own:
        config = config or recipe_beside(Path(data))
        data_set = _read_own(console, Path(data))
        recipe = _own_recipe(data_set, config, chosen, changes)
    else:
        recipe = _read_recipe(chosen, config, **changes)
        data_set = _read_data(recipe, data, subset)
    models = Registry(registry)
    rival = find_running(
        models,
        chosen,
        data_set.stream,
        name,
        fits=(lambda shipped: _reads(shipped, data_set)) if own else (lambda shipped: True),
        reported=None if centre is None else centre.running(data_set.stream),
        warn=lambda text: console.print(text, soft_wrap=True, markup=False),
    )
    running = print_running(console, rival)
    if not has_reason(console, when, running, data_set.digest, time.time_ns() // 1_000_000):
        return NO_REASON
    if data != "dummy":  # made-up readings have no unit
        seen = seen_range(data_set.train.windows)
        require_claimed_units(data_set.title, data_set.channels, seen, running, new_range=new_range)
    name = name or choose_name(task, data_set.name, data_set.title, running, is_own=own)
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
    folder = (out or default_folder(task, text, data_set.digest)).absolute()
    with open_run_folder(folder, text, console):
        console.print(
            f"{data_set.title}: {len(data_set.train)} windows; run folder {folder}", soft_wrap=True
        )
        log = RunLog(folder / "log.jsonl", console, recipe.epochs * (recipe.folds + 1))
        with log:
            candidate = candidates.train_candidate(
                data_set,
                recipe,
                name,
                folder,
                command=_describe_command(task, chosen, data, subset),
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
    return conclude(console, log, orders, candidate.artifact, running, rivals, rejected, measured)


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
        return shipped_recipe(source.starter, **changes)
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
