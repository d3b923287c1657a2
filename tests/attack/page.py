"""The page of all attacks, from the results that are kept."""

from __future__ import annotations

from collections.abc import Sequence

from tests.attack.results import Kept

__all__ = ["page"]


def page(kept: Sequence[Kept], command: str, not_run: Sequence[str] = ()) -> str:
    """Return the page of the results as Markdown.

    Args:
        kept: One row for each test.
        command: How the page was written.
        not_run: Suites without a row.
    """
    verdicts = [one.row.verdict for one in kept]
    held, broken, skipped = map(verdicts.count, ("held", "BROKEN", "skipped"))
    forms = [one.run.form for one in kept]
    lines = [
        "# Attacks",
        "",
        f"Written by `{command}`. What is promised: [delivery.md](../delivery.md). A `test` is in "
        "`tests/attack/`; `form` says whether its short form ran, or the long one, which repeats "
        "the attack more often. `count` is what was sent or damaged; of it `lost` is what is gone, "
        "wrong or refused without a word, and `doubled` what is there twice where once was "
        "promised. `run` is a line of the table [Runs](#runs).",
        "",
        f"{len(kept)} attacks ({forms.count('long')} in long form): {held} held, {broken} broken, "
        f"{skipped} skipped." + (f" Not run: {', '.join(not_run)}." if not_run else ""),
        "",
        "| test | form | count | lost | doubled | verdict | measured | run |",
        "|---|---|---|---|---|---|---|---|",
    ]
    runs = list(dict.fromkeys(one.run for one in kept))
    lines += [_line(one, runs.index(one.run) + 1) for one in kept]
    lines += ["", "## Runs", "", "| run | date (UTC) | revision |", "|---|---|---|"]
    lines += [f"| {n} | {run.when} | `{run.revision}` |" for n, run in enumerate(runs, 1)]
    for machine in dict.fromkeys(run.machine for run in runs):
        on = ", ".join(str(n) for n, run in enumerate(runs, 1) if run.machine == machine)
        lines += ["", f"Machine of run {on}: {machine}"]
    return "\n".join(lines) + "\n"


def _line(one: Kept, run: int) -> str:
    row = one.row
    cells = (row.test, one.run.form, row.count, row.lost, row.doubled, row.verdict, row.note)
    clean = [" ".join(cell.replace("|", "/").split()) for cell in cells]
    return f"| {' | '.join([*clean, str(run)])} |"
