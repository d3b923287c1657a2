"""Cards of the shipped students: readable tables, made from the manifests alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from models.manifest import Manifest
from models.tasks.classes import ClassAnswer
from models.tasks.number import NumberAnswer
from models.tasks.quantiles import ForecastDecoding, QuantilesAnswer
from models.tasks.registry import find_task
from training.errors import DataSetError
from training.stress.table import Stressed, stress_table

__all__ = ["BEGIN", "END", "card_tables", "write_cards"]

BEGIN = "<!-- cards: written by `python -m training.starters cards` -->"
END = "<!-- end of the cards -->"

_Measures = dict[str, float]


def write_cards(
    manifests: Sequence[Manifest], docs: Path, stressed: Mapping[str, Stressed]
) -> None:
    """Replace the text between the marks in a page.

    Args:
        manifests: Manifests of the students.
        docs: The page.
        stressed: Stress tests by name of the student.

    Raises:
        DataSetError: The page has no marks.
    """
    text = docs.read_text(encoding="utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        msg = f"{docs} has no place for the cards: add the lines {BEGIN} and {END}"
        raise DataSetError(msg)
    tables = card_tables(manifests, stressed)
    docs.write_text(f"{head}{BEGIN}\n\n{tables}\n{END}{tail}", encoding="utf-8")


def card_tables(manifests: Sequence[Manifest], stressed: Mapping[str, Stressed]) -> str:
    """Write the tables in Markdown: one for each kind of answer, and one card per student.

    Args:
        manifests: Manifests of the students.
        stressed: Stress tests by name of the student.
    """
    tables = {NumberAnswer: _number_table, ClassAnswer: _class_table, QuantilesAnswer: _fan_table}
    parts = [
        table([one for one in manifests if isinstance(find_task(one.task).answer, answer)])
        for answer, table in tables.items()
    ]
    for one in manifests:
        if not one.name.endswith("-int8"):
            parts.append(_card(one))
            if one.name in stressed:
                parts.append(stress_table(stressed[one.name]))
    return "\n".join(part for part in parts if part)


def _number_table(manifests: Sequence[Manifest]) -> str:
    rows = []
    for manifest in manifests:
        own, origin = _own_measures(manifest)
        for split, test in sorted(manifest.metrics.items()):
            if not split.startswith("test"):
                continue
            whole = split == "test"
            rows.append(
                [
                    manifest.name if whole else f"{manifest.name} on {split[5:]}",
                    f"{own['rmse']:.2f} ({origin})" if own and whole else "",
                    f"**{test['rmse']:.2f}**",
                    f"{test['nasa_score']:.0f}",
                    _covers_unseen(manifest, split),
                    f"{100 * test['interval_coverage']:.1f} % of {test['windows']:.0f}",
                    f"{test['interval_width']:.0f}",
                    *(_size_and_time(manifest) if whole else ["", ""]),
                ]
            )
    heads = ["student", "RMSE on engines not learned from", "test RMSE", "test NASA score"]
    heads += ["90 % interval covers, not learned from", "on test", "its mean width", "bytes"]
    heads += ["p50 / p99 ms"]
    return _table(heads, rows)


def _class_table(manifests: Sequence[Manifest]) -> str:
    rows = []
    for manifest in manifests:
        own, origin = _own_measures(manifest)
        test = manifest.metrics["test"]
        rows.append(
            [
                manifest.name,
                f"{own['macro_f1']:.3f} ({origin})" if own else "",
                f"**{test['macro_f1']:.3f}**",
                f"{test['accuracy']:.3f}",
                _calibration_error(test),
                f"{100 * test['unknown_share']:.1f} %",
                *_size_and_time(manifest),
            ]
        )
    heads = ["student", "macro-F1 on people not learned from", "test macro-F1", "test accuracy"]
    heads += ["test ECE (if exact)", "of test windows unknown", "bytes", "p50 / p99 ms"]
    return _table(heads, rows)


def _fan_table(manifests: Sequence[Manifest]) -> str:
    rows = []
    for manifest in manifests:
        own = manifest.metrics["validation"] if not manifest.name.endswith("-int8") else None
        for split, test in sorted(manifest.metrics.items()):
            if not split.startswith("test"):
                continue
            whole = split == "test"
            leads = [value for key, value in test.items() if key.startswith("coverage_")]
            rows.append(
                [
                    manifest.name if whole else f"{manifest.name} on {split[5:]}",
                    f"{own['mse']:.3f} / {own['ridge_mse']:.3f}" if own and whole else "",
                    f"**{test['mse']:.3f}** / {test['ridge_mse']:.3f} / {test['naive_mse']:.3f}",
                    f"{test['mae']:.3f} / {test['ridge_mae']:.3f} / {test['naive_mae']:.3f}",
                    f"{100 * test['coverage']:.1f} %",
                    " / ".join(f"{100 * value:.1f}" for value in leads),
                    *([*_size_and_time(manifest), _from_float32(manifest)] if whole else [""] * 3),
                ]
            )
    heads = ["student", "validation MSE: student / ridge", "test MSE: student / ridge / naive"]
    heads += ["test MAE, likewise", "p10 to p90 covers", "at the stored leads"]
    return _table([*heads, "bytes", "p50 / p99 ms", "from float32, sd at most"], rows)


def _from_float32(manifest: Manifest) -> str:
    """Largest difference of a forecast in eight bits, in training deviations."""
    apart = manifest.metrics.get("apart_from_float32")
    return f"{apart['largest']:.3f} in {apart['windows']:.0f} windows" if apart else ""


def _card(manifest: Manifest) -> str:
    window, lineage = manifest.window, manifest.lineage
    rate = f" at {manifest.rate_hz:g} Hz" if manifest.rate_hz else ""
    lines = [
        f"### {manifest.name}\n",
        f"- **Reads** the stream `{manifest.stream}`: {len(manifest.channels)} channels "
        f"({', '.join(manifest.channel_names)}), windows of {window.length} readings{rate}, one "
        f"every {window.hop}, from {window.min_readings} readings on.",
        f"- **Learned from** {lineage.data}. Teacher: {lineage.teacher or 'none'}; seed "
        f"{lineage.seed}; recipe `training/configs/{manifest.name}.toml`.",
    ]
    calibration = manifest.metrics.get("calibration", {})
    if manifest.interval is not None and manifest.interval.table is not None:
        table = manifest.interval.table
        ends = ", ".join(
            f"[{low:+.0f}, {high:+.0f}] at {knot:.0f}"
            for knot, low, high in list(zip(table.rul, table.low, table.high, strict=True))[::2]
        )
        lines.append(
            f"- **{manifest.interval.level:.0%} interval**, cycles around the score: {ends}."
        )
    unknown = getattr(manifest.decoding, "unknown", None)
    if unknown is not None:
        lines.append(
            f"- **Uncertainty**: temperature {calibration['temperature']:.2f}"
            f"{_doubt(calibration)} in the graph; "
            f"`unknown` below a probability of {unknown.threshold:.3f}, which rejected "
            f"{unknown.rejects:.1%} of known windows at calibration."
        )
    familiar = getattr(manifest.decoding, "familiar", None)
    if familiar is not None:
        lines.append(
            f"- **Familiarity**: `unfamiliar` beyond a distance of {familiar.limit:.2f}, as "
            f"{familiar.rejects:.1%} of the windows of new engines were at calibration, and "
            f"{manifest.metrics['test']['unfamiliar_share']:.1%} of those of the test; from "
            f"{familiar.whole:.2f} on the interval is the whole range."
        )
    if isinstance(manifest.decoding, ForecastDecoding):
        decoding = manifest.decoding
        lines.append(
            f"- **Forecasts** {decoding.horizon} readings, {decoding.step_ms / 3_600_000:g} h "
            f"apart, from {decoding.length}; the newest {decoding.backtest} are its backtest. "
            f"Stored leads: {', '.join(map(str, decoding.leads))}. An anomaly score from "
            f"{decoding.anomaly.alarm:.3f} on is an alarm."
        )
    lines.append(f"- **Terms**: {manifest.licence}.\n")
    return "\n".join(lines)


def _covers_unseen(manifest: Manifest, split: str) -> str:
    """Coverage of engines that neither taught nor calibrated; "" if the manifest lacks it."""
    found = manifest.metrics.get("calibration", {})
    if split != "test":
        found = manifest.metrics.get(split.replace("test", "out_of_fold"), {})
    elif manifest.name.endswith("-int8") or "interval_coverage_all" not in found:
        return ""  # of an older version, it is the coverage of the engines that calibrated
    share = found.get("interval_coverage")
    return "" if share is None else f"{100 * share:.1f} %"


def _doubt(calibration: _Measures) -> str:
    return f" and doubt {calibration['doubt']:.3f}" if "doubt" in calibration else ""


def _calibration_error(test: _Measures) -> str:
    """The error, and that of exact probabilities on as many windows, in brackets."""
    exact = test.get("calibration_error_if_exact")
    return f"{test['calibration_error']:.3f}" + ("" if exact is None else f" ({exact:.3f})")


def _own_measures(manifest: Manifest) -> tuple[_Measures, str]:
    """Find the measures on groups that the student, or its fold students, have not seen."""
    if manifest.name.endswith("-int8"):
        return {}, ""
    for split, origin in (("out_of_fold", "out of fold"), ("held_out", "held out")):
        if split in manifest.metrics:
            return manifest.metrics[split], origin
    return {}, ""


def _size_and_time(manifest: Manifest) -> list[str]:
    latency = manifest.metrics["latency"]
    return [
        f"{manifest.onnx.size_bytes:,}".replace(",", " "),
        f"{latency['p50_ms']:.3f} / {latency['p99_ms']:.3f}",
    ]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
