"""`train-redistill`: train a student from cached anchors and publish it if it is better.

Exit codes: 0 published, or better than the running student, or nothing runs yet; 3 not better (or
not clearly), nothing published; 4 out of time, the same command goes on; 2 wrong usage or data.
"""

from __future__ import annotations

import hashlib
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from rich.console import Console

from models.artifact import Artifact, read_artifact
from models.errors import ModelError
from models.registry import Registry
from models.zoo import list_zoo, zoo_path
from training.datasets.contract import DataSet
from training.errors import DataSetError, MissingExtraError, TrainingError
from training.recipes import Recipe, format_recipe, read_recipe, shipped_recipe
from training.report import RunLog, print_comparison, print_table

if TYPE_CHECKING:  # it needs torch, which --help does not
    from training.candidate import Candidate

__all__ = ["main", "redistill"]

NOT_BETTER = 3
UNFINISHED = 4
_STARTERS = {"rul": "rul-fd001", "activity": "har-waist"}


@click.command(context_settings={"show_default": True})
@click.option("--task", type=click.Choice(["rul", "har"]), required=True)
@click.option("--data", required=True, help="Zip, tar or folder of the data set; or: dummy.")
@click.option("--subset", default="FD001", help="C-MAPSS subset (task rul).")
@click.option(
    "--registry",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="KPSTREAM_GATEWAY_REGISTRY_DIR",
    default=Path.home() / ".local" / "state" / "kpstream" / "registry",
    help="Registry with the running student.",
)
@click.option("--publish", is_flag=True, help="Publish the new student if it is better.")
@click.option("--method", type=click.Choice(["kp", "none"]), help="Instead of the recipe's.")
@click.option(
    "--anchors", type=click.Choice(["text", "random"]), help="Instead of the recipe's (a control)."
)
@click.option("--seed", type=int, help="Instead of the recipe's.")
@click.option("--epochs", type=click.IntRange(min=1), help="Instead of the recipe's.")
@click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Recipe (flat TOML); the starter student's by default.",
)
@click.option("--name", help="Name of the student; that of the running one by default.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the run (state, log, plot, artifact); by default runs/<task>-<digest>.",
)
@click.option("--max-minutes", type=click.FloatRange(min=0), help="Stop then; run again to go on.")
def redistill(**options: Any) -> None:
    """Train a student by Knowledge Pruning and publish it if it beats the running one.

    It trains from cached anchors (no language model is loaded), judges both students on the same
    held-out engines or persons of the training set, and never looks at the official test set.
    """
    try:
        sys.exit(_redistill(Console(), **options))
    except (TrainingError, ModelError) as exc:
        _fail(str(exc))


def main() -> None:
    """Entry point of the console command."""
    redistill(prog_name="train-redistill")


def _fail(message: str) -> NoReturn:
    click.echo(f"train-redistill: {message}", err=True)
    sys.exit(2)


def _redistill(
    console: Console,
    *,
    task: str,
    data: str,
    subset: str,
    registry: Path,
    publish: bool,
    name: str | None,
    out: Path | None,
    max_minutes: float | None,
    **changes: Any,
) -> int:
    try:
        from training import candidate as runs
    except ModuleNotFoundError as exc:
        raise MissingExtraError(exc.name or "torch") from exc

    started_s = time.monotonic()
    deadline_s = started_s + (60 * max_minutes if max_minutes is not None else 1e12)
    kind = "activity" if task == "har" else "rul"
    running = _find_running(Registry(registry), kind, name)
    chosen: Path | None = changes.pop("config")
    recipe = _read_recipe(kind, chosen, **changes)
    data_set = _read_data(recipe, data, subset)
    if chosen is None:
        recipe = _draw_as(running, data_set, recipe)
    name = name or (running.manifest.name if running else _STARTERS[kind])
    fairness = runs.check_comparable(running, data_set, recipe) if running else None
    folder = out or _default_folder(task, recipe, data_set)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.toml").write_text(format_recipe(recipe), encoding="utf-8")

    console.print(f"{data_set.title}: {len(data_set.train)} windows; run folder {folder}")
    log = RunLog(folder / "log.jsonl", console, recipe.epochs * (recipe.folds + 1))
    with log:
        candidate = runs.train_candidate(
            data_set,
            recipe,
            name,
            folder,
            command=_describe_command(task, data, subset),
            on_epoch=log.add,
            deadline_s=deadline_s,
        )
    if candidate is None:
        console.print(
            f"Out of time ({max_minutes} min). The state is kept in {folder}; the same command "
            f"with --out {folder} goes on."
        )
        return UNFINISHED
    code = _conclude(
        console, log, candidate, running, fairness, data_set, Registry(registry), publish, folder
    )
    console.print(
        f"{time.monotonic() - started_s:.0f} s from reading the data to the end, "
        f"{candidate.seconds:.0f} s of them training."
    )
    return code


def _conclude(
    console: Console,
    log: RunLog,
    candidate: Candidate,
    running: Artifact | None,
    fairness: str | None,
    data_set: DataSet,
    registry: Registry,
    publish: bool,
    folder: Path,
) -> int:
    from models.session import Student
    from training.candidate import compare
    from training.plots import write_plot
    from training.starters.latency import measure_latency

    comparison, old_metrics = compare(running, candidate) if running else (None, {})
    better = comparison is None or comparison.is_better
    losses, curve = log.curve()
    write_plot(
        folder / "result.png",
        losses,
        curve,
        candidate.held_out.labels,
        candidate.scored,
        data_set.labels,
    )
    print_table(console, candidate, running, old_metrics, data_set)
    if comparison is not None:
        print_comparison(console, comparison, data_set, fairness)
    doubt = candidate.artifact.manifest.metrics.get("calibration", {})
    if doubt:
        words = ", ".join(f"{key} {value:.4g}" for key, value in doubt.items())
        console.print(f"Calibration on these windows: {words}.", soft_wrap=True)
    latency = measure_latency(Student(candidate.artifact), candidate.held_out.windows[:100])
    console.print(
        f"One window takes {latency['p50_ms']:.3f} ms (p50), {latency['p99_ms']:.3f} ms (p99)."
    )
    version = None
    if publish and better:
        if running is not None:
            registry.seed(running.path)  # of the zoo: the registry's history begins with it
        version = registry.publish(candidate.artifact.path, stable=True)
    log.write(
        {
            "result": candidate.metrics,
            "running": old_metrics or None,
            "gain": [comparison.gain, comparison.low, comparison.high] if comparison else None,
            "better": better,
            "published_version": version,
            "onnx_bytes": candidate.artifact.manifest.onnx.size_bytes,
            "training_seconds": round(candidate.seconds, 1),
            "calibration": doubt or None,
            **latency,
        }
    )
    console.print(_verdict(candidate, running, better, version, registry), soft_wrap=True)
    return 0 if better else NOT_BETTER


def _verdict(
    candidate: Candidate,
    running: Artifact | None,
    better: bool,
    version: int | None,
    registry: Registry,
) -> str:
    where = f"artifact in {candidate.artifact.path}"
    if version is not None:
        return f"Published {candidate.artifact.manifest.name} v{version} to {registry.root}."
    if not better:
        return f"Not better: nothing was published; {where}."
    what = "Better" if running else "Nothing to compare with"
    return f"{what}; not published (add --publish); {where}."


def _read_data(recipe: Recipe, path: str, subset: str) -> DataSet:
    if path == "dummy":
        from training.datasets.dummy import make_dummy

        return make_dummy("rul" if recipe.task == "rul" else "activity")
    if not Path(path).exists():
        msg = f"no such file or folder: {path}"
        raise DataSetError(msg)
    if recipe.task == "rul":
        from training.datasets import cmapss

        return cmapss.read_cmapss(
            Path(path),
            subset,
            with_test=False,
            length=recipe.length or cmapss.LENGTH,
            conditions=recipe.conditions,
        )
    from training.datasets.uci_har import read_uci_har

    return read_uci_har(Path(path), with_test=False)


def _find_running(registry: Registry, task: str, name: str | None) -> Artifact | None:
    """The stable student of the registry; the zoo's starter when the registry has none."""
    found = []
    for candidate in [name] if name else registry.names():
        pointer = registry.read_stable(candidate)
        if pointer is not None:
            artifact = registry.read(candidate, pointer.version, pointer.digest)
            if artifact.manifest.task == task:
                found.append(artifact)
    if len(found) > 1:
        names = ", ".join(artifact.manifest.name for artifact in found)
        msg = f"the registry runs several students of this task ({names}): choose with --name"
        raise TrainingError(msg)
    starter = _STARTERS[task]
    if not found and starter in list_zoo() and name in (None, starter):
        found.append(read_artifact(zoo_path(starter)))
    return found[0] if found else None


def _read_recipe(task: str, config: Path | None, **changes: Any) -> Recipe:
    if config is None:
        return shipped_recipe(_STARTERS[task], **changes)
    recipe = read_recipe(config, **changes)
    if recipe.task != task:
        msg = f"{config} is a recipe for {recipe.task}, not for {task}"
        raise TrainingError(msg)
    return recipe


def _draw_as(running: Artifact | None, data_set: DataSet, recipe: Recipe) -> Recipe:
    """The recipe with the held-out draw of a running student that was trained on these data."""
    from training.candidate import recipe_of

    trained = recipe_of(running) if running else None
    if running and trained and running.manifest.lineage.data_digest == data_set.digest:
        return replace(recipe, split_seed=trained.split_seed, hold_out=trained.hold_out)
    return recipe


def _describe_command(task: str, data: str, subset: str) -> str:
    """The command for the lineage, without folders of this machine; the recipe stands below it."""
    words = ["train-redistill", "--task", task, "--data", Path(data).name]
    return shlex.join([*words, "--subset", subset] if task == "rul" else words)


def _default_folder(task: str, recipe: Recipe, data_set: DataSet) -> Path:
    text = f"{format_recipe(recipe)}{data_set.digest}"
    return Path("runs") / f"{task}-{hashlib.sha256(text.encode('utf-8')).hexdigest()[:8]}"
