"""`train-redistill`: train a student and publish it if it is better.

Tasks with labels learn from cached anchors, in `redistill_labelled`; the forecast has its own way,
in `redistill_forecast`. Every end of a run is kept on its page (`runpage`).

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
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich.console import Console

from models.errors import Held, ModelError, Rejected
from training.centre import NOT_RELEASED, Centre
from training.datasets.series_sources import is_description
from training.datasets.sources import find_task_by_option, option_of, task_options
from training.decision import HELD, REJECTED
from training.errors import RecipeError, TrainingError
from training.reasons import When
from training.recipes import labelled_tasks
from training.redistill_forecast import redistill_forecast
from training.redistill_labelled import redistill_labelled
from training.runfolder import INTERRUPTED
from training.runpage import FAILED, RunPage

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
    page = RunPage(
        command=_typed_command(click.get_current_context()),
        key="\n".join(
            [Path(options["data"]).name, str(Path(options["data"]).absolute())]
            + [str(options[name]) for name in ("task", "subset", "name")]
        ),
        out=options["out"],
        began_ms=time.time_ns() // 1_000_000,
        if_needed=when.if_needed,
    )
    try:
        code, message = _run(page, options)
    except click.UsageError:
        raise
    except Exception as exc:
        click.echo(page.finish(1, f"{type(exc).__name__}: see the traceback."), err=True)
        raise
    if message:
        click.echo(message, err=True)
    click.echo(page.finish(code, message), err=code in (FAILED, NOT_RELEASED))
    sys.exit(code)


def _run(page: RunPage, options: dict[str, Any]) -> tuple[int, str]:
    """Train; returns the exit code, and for standard error why the run has failed."""
    try:
        option = _choose_task(options.pop("task"), options["data"])
        task, console = find_task_by_option(option), Console()
        if task in labelled_tasks():
            return redistill_labelled(console, page, task, option=option, **options), ""
        return _redistill_forecast(console, page, option, **options), ""
    except Held as exc:
        return HELD, f"train-redistill: {exc}"
    except Rejected as exc:
        return REJECTED, f"train-redistill: {exc}"
    except (TrainingError, ModelError) as exc:
        return FAILED, f"train-redistill: {exc}"
    except OSError as exc:  # a full disk, a registry without the right to write
        where = exc.filename or "a file of the run"
        return FAILED, (
            f"train-redistill: {where}: {exc.strerror or exc}: nothing was published. Mend that "
            "and run the same command again: finished passes are kept"
        )
    except KeyboardInterrupt:
        return INTERRUPTED, "Stopped before the training began."
    except SystemExit as ended:  # stopped in the training, which has been said
        return int(ended.code or 0), ""


def _typed_command(context: click.Context) -> str:
    """The command with the options that were given, as a shell takes it."""
    words = ["train-redistill"]
    for parameter in context.command.params:
        name = parameter.name or ""
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            value = context.params[name]
            words += [parameter.opts[0]] if value is True else [parameter.opts[0], str(value)]
    return shlex.join(words)


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


def _redistill_forecast(
    console: Console,
    page: RunPage,
    option: str,
    *,
    method: str | None,
    anchors: str | None,
    seed: int | None,
    epochs: int | None,
    despite_baselines: bool,
    with_test: bool,
    **options: Any,
) -> int:
    for key, value in (("method", method), ("anchors", anchors)):
        if value is not None:
            msg = f"--{key} is for tasks with labels; task {option} has its settings in --config"
            raise RecipeError(msg)
    changes = {"seed": seed, "epochs": epochs}
    task = find_task_by_option(option)
    return redistill_forecast(console, page, task, option=option, changes=changes, **options)
