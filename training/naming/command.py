"""`kpstream models extend`: a student also knows an activity, by its description alone.

Exit codes: 0 if the new version was written or published; 2 for wrong usage or data; 3 if the
activity cannot be told from the known ones ("I can't: ..."), and nothing was written.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from pathlib import Path

import click

from models.acceptance import publish_stable
from models.artifact import Artifact
from models.lookup import find_student
from models.manifest import Manifest
from models.registry import Registry
from training.datasets.contract import DataSet
from training.datasets.dummy import make_dummy
from training.datasets.own import read_own
from training.datasets.own_description import described, is_own
from training.datasets.uci_har import read_uci_har
from training.errors import Hopeless, NamingError, exit_on_errors
from training.naming.extend import Extension, encode_text, extend_student, measures_name
from training.starters.build import STUDENTS, read_data
from training.teachers.lexicon import describe_label

__all__ = ["extend"]

_HOPELESS = 3


@click.command(context_settings={"show_default": True})
@click.argument("name")
@click.option("--activity", required=True, help="Name of the new activity, such as cycling.")
@click.option(
    "--describe",
    "sentences",
    multiple=True,
    help="A sentence about what a sensor would feel: strength, rhythm, impacts, posture, turns. "
    "May be repeated. Common activities need none.",
)
@click.option(
    "--known-as",
    "known_as",
    multiple=True,
    metavar="LABEL=SENTENCE",
    help="A sentence about an activity that the student knows, or the name of one that everybody "
    "knows. May be repeated. Needed for labels such as S3.",
)
@click.option(
    "--data",
    required=True,
    help="Data that the student was trained on: its dataset.toml, or the folder of the data set; "
    "or: dummy. Windows of the known activities say how far theirs may stray, and what margin "
    "keeps them from getting the new name; the student alone does not contain that.",
)
@click.option("--version", type=click.IntRange(1), help="Version to extend; default: stable.")
@click.option(
    "--misnamed",
    type=click.FloatRange(0.001, 0.2),
    default=0.05,
    help="Largest share of windows of known activities that may get the new name.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Write the student to this folder.")
@click.option("--publish", is_flag=True, help="Add it to the registry as the next version.")
@click.option("--stable", is_flag=True, help="With --publish: also make it stable.")
@click.option(
    "--registry",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="KPSTREAM_GATEWAY_REGISTRY_DIR",
    default=Path.home() / ".local" / "state" / "kpstream" / "registry",
    help="Registry of the student.",
)
@exit_on_errors("kpstream models extend")
def extend(
    name: str,
    activity: str,
    sentences: tuple[str, ...],
    known_as: tuple[str, ...],
    data: str,
    version: int | None,
    misnamed: float,
    out: Path | None,
    publish: bool,
    stable: bool,
    registry: Path,
) -> None:
    """Make the next version of student NAME, which also knows an activity without an example.

    NAME is a student of the registry, one that ships with kpstream, or a folder with a student.
    Nothing is trained: the description is compared with those of the known activities, and their
    windows with each other. On the gateway nothing is new.
    """
    try:
        if bool(out) == publish:
            msg = "pass either --out FOLDER or --publish"
            raise NamingError(msg)
        artifact = find_student(name, Registry(registry), version)
        given = sentences or describe_label(activity) or ()
        with tempfile.TemporaryDirectory() as scratch:
            found = extend_student(
                artifact,
                _read_data(artifact.manifest, data),
                activity,
                given,
                _pairs(known_as),
                out or Path(scratch) / "student",
                share=misnamed,
                encode=encode_text,
                command=shlex.join(["kpstream models extend", name, "--activity", activity]),
            )
            _show(found, activity, misnamed)
            if publish:
                _publish(Registry(registry), found.artifact, scratch, stable=stable)
            else:
                click.echo(f"written to {out}; publish it: kpstream models publish {out}")
    except Hopeless as exc:
        click.echo(str(exc), err=True)
        sys.exit(_HOPELESS)


def _read_data(manifest: Manifest, data: str) -> DataSet:
    path = described(Path(data))
    if data == "dummy":
        return make_dummy(manifest.task)
    if is_own(path):
        return read_own(path).data
    starter = manifest.name.removesuffix("-int8")
    if starter in STUDENTS:
        return read_data(starter, path, with_test=False)
    return read_uci_har(path, with_test=False)


def _pairs(known_as: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for text in known_as:
        label, equals, sentence = text.partition("=")
        if not equals or not label or not sentence.strip():
            msg = f"--known-as {text!r}: write LABEL=SENTENCE, such as S3='a person sits still'"
            raise NamingError(msg)
        found[label] = (
            *found.get(label, ()),
            *(describe_label(sentence, whole=True) or (sentence.strip(),)),
        )
    return found


def _show(found: Extension, activity: str, misnamed: float) -> None:
    for label, sentences in found.described.items():
        click.echo(f"{label}: {'; '.join(sentences)}")
    for note in found.notes:
        click.echo(f"note: {note}")
    labels = found.artifact.manifest.decoding.labels  # type: ignore[attr-defined]
    for one in found.left_out:
        click.echo(
            f"left out {labels[one.label]:<24} recall {one.recall:.2f} (movement "
            f"{one.by_movement:.2f}, with features {one.with_features:.2f}), "
            f"others misnamed {one.false_alarms:.3f}, movement by permuted descriptions "
            f"{one.by_chance:.2f}"
        )
    measures = found.artifact.manifest.metrics[measures_name(activity)]
    if found.left_out:
        click.echo(
            f"expected for {activity}: recall {measures['expected_recall']:.2f} "
            f"[{measures['expected_recall_low']:.2f}, {measures['expected_recall_high']:.2f}] "
            f"(95 % interval over the {len(found.left_out)} known activities); movement by "
            f"permuted descriptions {measures['by_permuted_descriptions']:.2f}"
        )
    click.echo(
        f"windows of known activities that get the name: {100 * found.false_alarms:.1f} % of those "
        f"of held-out people (at most {100 * misnamed:g} %); newly unknown: "
        f"{100 * found.newly_unknown:.1f} %. Nearest known activity: {found.nearest}"
    )


def _publish(registry: Registry, artifact: Artifact, scratch: str, *, stable: bool) -> None:
    folder = Path(scratch) / "student"
    name = artifact.manifest.name
    if stable:
        pointer = publish_stable(registry, folder).pointer
        click.echo(f"{name} v{pointer.version} is published and stable")
        return
    version = registry.publish(folder)
    click.echo(
        f"{name} is published as v{version}; make it stable: kpstream models promote "
        f"{name} {version}"
    )
