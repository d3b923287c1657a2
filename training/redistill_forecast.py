"""`train-redistill --task forecast`: train a forecasting student and publish it if it is better.

It is published only if it is better on held-out time than the running student, the ridge and the
seasonal-naive forecast; `training.forecast_gate` has the comparison. The test part is never read.
"""

from __future__ import annotations

import math
import shlex
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from models.artifact import Artifact
from models.describe import seen_range
from models.manifest import check_fit
from models.registry import Registry
from models.session import Student
from models.tasks.contract import Task
from training.centre import Centre
from training.claimedunits import require_claimed_units
from training.datasets.dummy_series import make_dummy_series
from training.datasets.series import SeriesSet
from training.datasets.series_sources import is_description, read_series_file
from training.errors import DataSetError, MissingExtraError, RecipeError
from training.evaluate import Rival
from training.forecast_gate import (
    HeldOutTime,
    Verdict,
    cut_held_out,
    judge,
    repeat_season,
    student_forecast,
)
from training.publication import Orders, conclude, find_rejected, require_publishable
from training.reasons import NO_REASON, When, look_for_reasons
from training.report import RunLog, print_forecast_gains, print_forecast_table
from training.runfolder import default_folder, open_run_folder, out_of_time
from training.running import Running, choose_name, find_running, print_running, title_of
from training.runpage import RunPage

if TYPE_CHECKING:  # they need torch, which --help does not
    from training.forecasting.candidate import ForecastCandidate
    from training.forecasting.recipe import ForecastRecipe

__all__ = ["redistill_forecast"]

_NO_TEACHER = "none"
_DEFAULT = {"length": 96, "horizon": 24, "backtest": 24, "leads": [1, 6, 12, 24]}


@dataclass(frozen=True, slots=True)
class _Inputs:
    """What a run is given.

    Attributes:
        task: The task.
        whole: The data set as its reader returns it.
        known: The same without its test part; its last part is the held-out time.
        rival: The running student, if there is one for this stream, and why it is that one.
        recipe: Recipe of the run.
        held_out: Windows of the held-out time.
    """

    task: Task
    whole: SeriesSet
    known: SeriesSet
    rival: Running | None
    recipe: ForecastRecipe
    held_out: HeldOutTime

    @property
    def running(self) -> Artifact | None:
        """The running student."""
        return None if self.rival is None else self.rival.artifact


def redistill_forecast(
    console: Console,
    page: RunPage,
    task: Task,
    *,
    option: str,
    data: str,
    subset: str | None,
    registry: Path,
    publish: bool,
    replace: bool,
    new_range: bool,
    min_gain: float | None,
    when: When,
    centre: Centre | None,
    name: str | None,
    out: Path | None,
    max_minutes: float | None,
    config: Path | None,
    changes: dict[str, Any],
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
        from training.forecasting.candidate import train_forecaster
        from training.forecasting.recipe import format_forecast_recipe
    except ModuleNotFoundError as exc:
        raise MissingExtraError(exc.name or "torch") from exc

    started_s = time.monotonic()
    deadline_s = started_s + (60 * max_minutes if max_minutes is not None else math.inf)
    models = Registry(registry)
    given = _read_inputs(console, task, data, subset, models, name, centre, config, changes)
    whole, digest = given.whole, given.known.digest
    page.describe_series(given.known, given.held_out, task.error_unit)
    page.describe_running(given.rival)
    page.reasons = look_for_reasons(console, when, given.running, digest, page.began_ms)
    if page.reasons == []:
        return NO_REASON
    if data != "dummy":  # made-up readings have no unit
        seen = seen_range(np.concatenate(whole.series))
        require_claimed_units(whole.title, whole.channels, seen, given.running, new_range=new_range)
    name = name or choose_name(option, whole.name, whole.title, given.running)
    orders = Orders(models, publish, replace, centre, min_gain)
    require_publishable(orders, whole.stream, name)
    text = format_forecast_recipe(given.recipe)
    folder = (out or default_folder(option, text, digest)).absolute()
    with open_run_folder(folder, text, console):
        page.open(folder)
        console.print(f"{_describe_data(given)}; run folder {folder}", soft_wrap=True)
        log = RunLog(folder / "log.jsonl", console, given.recipe.epochs)
        with log:
            candidate = train_forecaster(
                given.known,
                given.recipe,
                name,
                folder,
                command=_describe_command(option, data, subset),
                on_epoch=lambda done: log.add_pass(done.number, done.loss, done.validation),
                deadline_s=deadline_s,
            )
        if candidate is None:
            return out_of_time(console, folder, max_minutes)
        code = _conclude(console, log, page, given, orders, candidate)
    console.print(
        f"{time.monotonic() - started_s:.0f} s from reading the data to the end, "
        f"{candidate.seconds:.0f} s of them training."
    )
    return code


def _read_inputs(
    console: Console,
    task: Task,
    data: str,
    subset: str | None,
    registry: Registry,
    name: str | None,
    centre: Centre | None,
    config: Path | None,
    changes: dict[str, Any],
) -> _Inputs:
    whole = _read_data(data, subset)
    rival = find_running(
        registry,
        task,
        whole.stream,
        name,
        reported=None if centre is None else centre.running(whole.stream),
        fits=lambda shipped: shipped.manifest.channels == whole.channels,
        warn=lambda text: console.print(text, soft_wrap=True, markup=False),
    )
    running = print_running(console, rival)
    recipe = _read_recipe(config, running, whole, changes)
    if running is not None:
        _check_window(running, recipe)
    longest = max(recipe.length + recipe.backtest, whole.period)
    known = whole.before_test()
    held_out = cut_held_out(known, longest, recipe.horizon)
    return _Inputs(task, whole, known, rival, recipe, held_out)


def _read_data(path: str, subset: str | None) -> SeriesSet:
    if path == "dummy":
        return make_dummy_series()
    if not Path(path).exists():
        msg = f"no such file or folder: {path}: check --data, or use --data dummy"
        raise DataSetError(msg)
    if subset is None and not is_description(path):
        msg = (
            "--subset names the series of an archive, such as --subset ETTh1, and is missing. For "
            "CSV files of your own, --data takes their description (docs/howto/data-set.md)"
        )
        raise DataSetError(msg)
    return read_series_file(Path(path), subset or "")


def _read_recipe(
    config: Path | None, running: Artifact | None, data: SeriesSet, changes: dict[str, Any]
) -> ForecastRecipe:
    """Read the recipe: that of --config, of the running student, or the default."""
    from training.forecasting.recipe import (
        parse_forecast_recipe,
        parse_forecast_table,
        read_forecast_recipe,
    )

    changes = changes | {"data": data.name}
    if config is not None:
        recipe = read_forecast_recipe(config, **changes)
        if recipe.teacher != _NO_TEACHER:
            msg = (
                f"recipe: teacher is {recipe.teacher!r}, but its products know the held-out time "
                f"of this comparison: set teacher to {_NO_TEACHER!r}"
            )
            raise RecipeError(msg)
        return recipe
    if running is not None:
        with suppress(RecipeError):  # another program trained it, or a version with more keys
            lineage = running.manifest.lineage.command
            return parse_forecast_recipe(lineage, **changes | {"teacher": _NO_TEACHER})
    return parse_forecast_table(_DEFAULT, **changes)


def _check_window(running: Artifact, recipe: ForecastRecipe) -> None:
    """Refuse before the training what `check_fit` would refuse after it."""
    has, wants = running.manifest.window.length, recipe.length + recipe.backtest
    if has != wants:
        msg = (
            f"recipe: length {recipe.length} and backtest {recipe.backtest} make windows of "
            f"{wants} readings, but the running {running.manifest.name} "
            f"v{running.manifest.version} reads {has}: use its length and backtest, or publish "
            "under a new --name"
        )
        raise RecipeError(msg)


def _conclude(
    console: Console,
    log: RunLog,
    page: RunPage,
    given: _Inputs,
    orders: Orders,
    candidate: ForecastCandidate,
) -> int:
    from training.plots import write_forecast_plot
    from training.starters.latency import measure_latency

    verdict = _judge(given, candidate)
    sizes = {verdict.new.name: candidate.artifact.manifest.onnx.size_bytes}
    if given.running is not None:
        sizes[title_of(given.running)] = given.running.manifest.onnx.size_bytes
    print_forecast_table(console, verdict, sizes, given.held_out)
    print_forecast_gains(console, verdict, given.held_out, given.task.error_unit)
    page.fairness = _describe_fairness(given)
    console.print(f"Fairness: {page.fairness}.", soft_wrap=True, markup=False)
    losses, curve = log.validation_curve()
    write_forecast_plot(log.path.parent / "result.png", losses, curve, verdict, given.held_out)
    student = Student(candidate.artifact)
    length = candidate.artifact.manifest.window.length
    inputs = given.held_out.windows.inputs(slice(0, 100))[:, -length:]
    raw = (inputs * given.known.deviation + given.known.mean).astype(np.float32)
    latency = measure_latency(student, raw, blocks=3)
    console.print(
        f"One window takes {latency['p50_ms']:.3f} ms (p50), {latency['p99_ms']:.3f} ms (p99)."
    )
    rivals = verdict.against(given.task.headline.name, given.held_out)
    rejected = find_rejected(
        orders.registry,
        candidate.artifact.manifest.name,
        lambda artifact: _against(given, candidate, verdict, artifact),
    )
    measured = {
        "result": verdict.new.measures,
        "training_seconds": round(candidate.seconds, 1),
        **latency,
    }
    return conclude(
        console, log, page, orders, candidate.artifact, given.running, rivals, rejected, measured
    )


def _against(
    given: _Inputs, candidate: ForecastCandidate, verdict: Verdict, other: Artifact
) -> Rival:
    """Compare another student with the new one, as the running one is compared."""
    check_fit(other.manifest, candidate.artifact.manifest)
    forecast = student_forecast(Student(other), given.known, given.recipe.horizon)
    judged = judge(given.task, "rejected", forecast, given.held_out)
    found = Verdict.of(verdict.new, (judged,), given.held_out)
    return found.against(given.task.headline.name, given.held_out)[0]


def _judge(given: _Inputs, candidate: ForecastCandidate) -> Verdict:
    import torch

    known, recipe, held_out = given.known, given.recipe, given.held_out

    def ridge(inputs: Any) -> Any:
        with torch.no_grad():
            return candidate.ridge(torch.from_numpy(inputs[:, -recipe.length :])).numpy()

    forecasts = {
        "seasonal naive": repeat_season(known.period, recipe.horizon),
        "ridge": ridge,
        "new": student_forecast(Student(candidate.artifact), known, recipe.horizon),
    }
    if given.running is not None:
        check_fit(given.running.manifest, candidate.artifact.manifest)
        running = student_forecast(Student(given.running), known, recipe.horizon)
        forecasts = {title_of(given.running): running} | forecasts
    judged = [judge(given.task, name, one, held_out) for name, one in forecasts.items()]
    return Verdict.of(judged[-1], tuple(judged[:-1]), held_out)


def _describe_data(given: _Inputs) -> str:
    known, windows = given.known, given.held_out.windows
    readings = sum(end for _, end, _ in known.borders)
    devices = f"{len(known.devices)} device{'s' if len(known.devices) > 1 else ''}"
    begin, end = (
        np.datetime64(int(at), "ms").astype("datetime64[m]")
        for at in (windows.times_ms().min(), windows.times_ms().max())
    )
    return (
        f"{known.title}: {readings} readings of {devices} to learn from and to calibrate on; held "
        f"out: {len(windows)} windows from {begin} to {end} UTC"
    )


def _describe_fairness(given: _Inputs) -> str:
    if given.running is None:
        return "ridge and student learned from the same readings, before the held-out time"
    digest = given.running.manifest.lineage.data_digest
    if digest == given.known.digest:
        return "all learned from the same readings, before the held-out time"
    if digest == given.whole.digest:
        return (
            "the running student also learned from the readings that calibrate the new one, which "
            "favours the running student; neither learned from the held-out time"
        )
    return (
        f"the running student learned from other readings ({given.running.manifest.lineage.data}); "
        "if the held-out time is among them, that favours the running student"
    )


def _describe_command(option: str, data: str, subset: str | None) -> str:
    """Describe the command for the lineage, without folders of this machine."""
    arguments = ["train-redistill", "--task", option, "--data", Path(data).name]
    return shlex.join([*arguments, "--subset", subset] if subset else arguments)
