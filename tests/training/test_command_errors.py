"""A command that gets the path of something else says so in a line, writes nothing and ends.

Every command of training with a path of data, cache, student or results is here, with an empty
folder, a path where nothing is, and a file of other content in its place. A run would take hours:
that each of these ends in a moment is part of what is tested.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

pytestmark = pytest.mark.needs_training

# Module and words; {x} is the path.
COMMANDS = (
    ("training.bench.anomalies", "run --data {x} --set ETTh1 --results {out}"),
    ("training.bench.anomalies", "report --results {x}"),
    ("training.bench.command", "report --results {x} --out {out}"),
    ("training.bench.examples", "--data {x} --cache {x} --results {out}"),
    ("training.bench.llata", "--data {x} --folder {out} --results {out}"),
    ("training.bench.naming", "--data {x} --cache {x} --results {out}"),
    ("training.bench.namingacross", "--data {x} --results {out}"),
    ("training.bench.namingcache", "--data {x} --out {out}"),
    ("training.bench.namingtexts", "--cache {x} --results {out}"),
    ("training.bench.papercommand", "run --data {x} --results {out}"),
    ("training.bench.papercommand", "report --results {x} --out {out}"),
    ("training.bench.paperdropout", "--data {x}"),
    ("training.bench.teachersreport", "--results {x}"),
    ("training.bench.timellm", "--data {x} --folder {out} --results {out}"),
    ("training.bench.unknown", "--data {x}"),
    ("training.naming.command", "{x} --activity cycling --data dummy --out {out}"),
    ("training.naming.command", "har-waist --activity cycling --data {x} --out {out}"),
    ("training.starters.build", "stress --data {x} --results {out}"),
    ("training.starters.official", "--artifact {x} --data {x}"),
    ("training.starters.transformerfit", "--data {x}"),
    ("training.stress.command", "{x} --data {x}"),
    ("training.stress.command", "har-waist --data {x}"),
)


@pytest.mark.parametrize("what", ["empty folder", "nothing", "file"])
@pytest.mark.parametrize(("module", "words"), COMMANDS)
def test_a_path_of_something_else_is_told_without_a_traceback(
    module: str,
    words: str,
    what: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, out = tmp_path / "given", tmp_path / "out"
    if what == "empty folder":
        path.mkdir()
    elif what == "file":
        path.write_text("neither data nor results\n")
    found = importlib.import_module(module)
    main = next(getattr(found, name) for name in ("main", "extend") if hasattr(found, name))
    given = words.format(x=path, out=out).split()
    if isinstance(main, click.Command):
        done = CliRunner().invoke(main, given)
        said, code, error = done.output, done.exit_code, done.exception
    else:
        monkeypatch.setattr("sys.argv", [module, *given])
        with pytest.raises(SystemExit) as ended:
            main()
        said, code, error = capsys.readouterr().err, ended.value.code, None
    assert error is None or isinstance(error, SystemExit), repr(error)
    assert code == 2, said
    assert str(path) in said or "given" in said
    assert "Traceback" not in said
    assert re.search(r": .{20,}", said), "a sentence, not a word"
    assert not out.exists()
