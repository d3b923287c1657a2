"""Queries over the scores of forecasts: anomaly score, alarms, and error of the backtest. Pure.

A window alarms at the level that its student states, so the queries read the field `alarm` and know
no level. The error and the coverage of the backtest come with every window; nothing is compared.
"""

from __future__ import annotations

from dashboards.queries.flux import names, pipe, read, text
from dashboards.queries.query import ColumnType, Query, per_series, table
from dashboards.queries.scores import FLEET, ONE_DEVICE, SERIES
from dashboards.queries.stages import AT_THE_END, PIVOT, every
from models.tasks.contract import Task
from pipeline.points.measurements import SCORE_TAGS, hourly_measurement, score_measurement

__all__ = [
    "NO_ALARM",
    "alarms_by_device",
    "alarms_by_site",
    "anomaly_lasting",
    "coverage_history",
    "coverage_of_day",
    "coverage_of_models",
    "device_alarms",
    "device_anomaly",
    "device_anomaly_now",
    "device_oddest",
    "devices_in_alarm",
    "error_history",
    "error_of_models",
    "number_of_alarms",
    "score_now",
]

NO_ALARM = "no alarm"
"""State of a timeline of odd channels while no window alarms."""


def devices_in_alarm(task: Task) -> Query:
    """Number of devices whose newest window alarms."""
    return per_series(
        f"{task.name}_in_alarm",
        [
            *read(score_measurement(task), ["alarm"], *FLEET),
            "last()",
            "group()",
            "sum()",
            AT_THE_END,
        ],
        (),
        "int",
    )


def alarms_by_device(task: Task) -> Query:
    """Newest window of every device and its windows with an alarm; most alarms first."""
    scores = score_measurement(task)
    newest = pipe(read(scores, ["score", "channel", "mae", "covered", "version"], *FLEET), "last()")
    alarms = pipe(
        read(scores, ["alarm"], *FLEET),
        "sum()",
        'set(key: "_field", value: "alarms")',
    )
    when = pipe(
        read(scores, ["version"], *FLEET),
        "last()",
        "map(fn: (r) => ({r with _value: r._time}))",
        'set(key: "_field", value: "newest")',
    )
    columns: dict[str, ColumnType] = {"site": "text", "device": "text", "model": "text"}
    columns |= {"alarms": "int", "score": "float", "channel": "text", "mae": "float"}
    columns |= {"covered": "float", "version": "int", "newest": "time"}
    return table(
        f"{task.name}_alarms",
        [
            _union(newest, alarms, when),
            f'pivot(rowKey: {names(SCORE_TAGS)}, columnKey: ["_field"], valueColumn: "_value")',
        ],
        columns,
        sort=["alarms", "score"],
        descending=True,
    )


def alarms_by_site(task: Task) -> Query:
    """Windows with an alarm over time, by site."""
    return per_series(
        f"{task.name}_alarms_by_site",
        [
            *read(score_measurement(task), ["alarm"], *FLEET),
            every("sum"),
            'group(columns: ["site", "_time"])',
            "sum()",
        ],
        ("site",),
        "int",
    )


def device_anomaly_now(task: Task) -> Query:
    """Newest anomaly score of one device."""
    return per_series(
        f"device_{task.name}_score_now",
        [*read(score_measurement(task), ["score"], *ONE_DEVICE), "last()"],
        SERIES,
    )


def device_anomaly(task: Task) -> Query:
    """Largest anomaly score of one device over time."""
    return per_series(
        f"device_{task.name}_score",
        [*read(score_measurement(task), ["score"], *ONE_DEVICE), every("max")],
        ("_field", *SERIES),
    )


def device_alarms(task: Task) -> Query:
    """The same where a window alarms, to mark it."""
    return per_series(
        f"device_{task.name}_alarms",
        [
            *read(score_measurement(task), ["score", "alarm"], *ONE_DEVICE),
            PIVOT,
            "filter(fn: (r) => r.alarm == 1)",
            'map(fn: (r) => ({r with _field: "alarm", _value: r.score}))',
            every("max"),
        ],
        ("_field", *SERIES),
        may_be_empty=True,
    )


def device_oddest(task: Task) -> Query:
    """Oddest channel of the oddest window of every step, where it alarms."""
    return per_series(
        f"device_{task.name}_oddest",
        [
            *read(score_measurement(task), ["score", "alarm", "channel"], *ONE_DEVICE),
            PIVOT,
            "map(fn: (r) => ({r with _value: r.score}))",
            every("max"),
            f"map(fn: (r) => ({{r with _value: if r.alarm == 1 then r.channel else "
            f"{text(NO_ALARM)}}}))",
        ],
        SERIES,
        "text",
    )


def error_history(task: Task, bucket: str) -> Query:
    """Mean error of the backtest of one device in each hour."""
    hours = read(hourly_measurement(task), ["mae_mean"], *ONE_DEVICE, bucket=text(bucket))
    return per_series(f"{task.name}_error_history", hours, SERIES)


def coverage_history(task: Task, bucket: str) -> Query:
    """Coverage of the backtest of one device in each hour."""
    hours = read(hourly_measurement(task), ["covered_mean"], *ONE_DEVICE, bucket=text(bucket))
    return per_series(f"{task.name}_coverage_history", hours, SERIES)


def error_of_models(task: Task, bucket: str) -> Query:
    """Mean error of the backtest in each hour, over all windows of a model."""
    return _of_models(task, "error", "mae_mean", bucket)


def coverage_of_models(task: Task, bucket: str) -> Query:
    """Coverage of the backtest in each hour, over all windows of a model."""
    return _of_models(task, "coverage", "covered_mean", bucket)


def anomaly_lasting(task: Task, windows: int, clear_score: float, clear_windows: int) -> Query:
    """1 for a device whose anomaly lasts, otherwise 0, for an alert.

    It becomes 1 after `windows` windows with an alarm in a row, and 0 again after `clear_windows`
    windows in a row with a score below `clear_score`. A run of windows is a moving average of 1,
    which takes InfluxDB a third of the time of a fold. Of fewer windows than a run needs, Flux
    averages those there are, so the query also counts them.
    """
    scores = score_measurement(task)
    alarms, score = read(scores, ["alarm"]), read(scores, ["score"])
    is_calm = f"if r._value < {clear_score:.6f} then 1.0 else 0.0"
    when = "map(fn: (r) => ({r with _value: int(v: r._time)}))"
    calm = f"map(fn: (r) => ({{r with _value: {is_calm}}}))"
    parts = {
        "count": [*alarms, "count()"],
        "fires": [*alarms, "toFloat()", *_last_run(windows), when],
        "clears": [*score, calm, *_last_run(clear_windows), when],
    }
    named = [pipe(part, f'set(key: "_field", value: "{name}")') for name, part in parts.items()]
    return per_series(
        "alert_anomaly_lasting",
        [
            _union(*named),
            f'pivot(rowKey: {names(SCORE_TAGS)}, columnKey: ["_field"], valueColumn: "_value")',
            f"map(fn: (r) => ({{r with _value: if r.count < {windows} or not exists r.fires then 0 "
            "else if not exists r.clears then 1 else if r.fires >= r.clears then 1 else 0}))",
            AT_THE_END,
        ],
        SERIES,
        "int",
    )


def number_of_alarms(task: Task) -> Query:
    """Windows with an alarm of every device, for the text of an alert."""
    return per_series(
        "alert_anomaly_alarms",
        [*read(score_measurement(task), ["alarm"]), "sum()", AT_THE_END],
        SERIES,
        "int",
    )


def score_now(task: Task) -> Query:
    """Newest anomaly score of every device, for the text of an alert."""
    return per_series(
        "alert_anomaly_score", [*read(score_measurement(task), ["score"]), "last()"], SERIES
    )


def coverage_of_day(task: Task, bucket: str, hours: int) -> Query:
    """Coverage of the backtest of every device with enough hours in the range, for an alert.

    Hours count by their windows. A device with fewer than `hours` hours is left out.
    """
    return per_series(
        "alert_coverage",
        [
            *_weighted_hours(task, "covered_mean", bucket),
            f"group(columns: {names(SERIES)})",
            "reduce(\n"
            "    identity: {hours: 0, windows: 0.0, sum: 0.0},\n"
            "    fn: (r, accumulator) => ({\n"
            "      hours: accumulator.hours + 1,\n"
            "      windows: accumulator.windows + float(v: r.windows),\n"
            "      sum: accumulator.sum + r._value,\n"
            "    }),\n"
            "  )",
            f"filter(fn: (r) => r.hours >= {hours})",
            "map(fn: (r) => ({r with _value: r.sum / r.windows}))",
            AT_THE_END,
        ],
        SERIES,
    )


def _of_models(task: Task, what: str, field: str, bucket: str) -> Query:
    return per_series(
        f"{task.name}_{what}_of_models",
        [
            *_weighted_hours(task, field, bucket, fleet=True),
            'group(columns: ["model", "_time"])',
            "reduce(\n"
            "    identity: {windows: 0.0, sum: 0.0},\n"
            "    fn: (r, accumulator) => ({\n"
            "      windows: accumulator.windows + float(v: r.windows),\n"
            "      sum: accumulator.sum + r._value,\n"
            "    }),\n"
            "  )",
            "map(fn: (r) => ({r with _value: r.sum / r.windows}))",
        ],
        ("model",),
    )


def _last_run(windows: int) -> list[str]:
    """Stages that give the end of the last run of windows that are all 1."""
    return [f"movingAverage(n: {windows})", "filter(fn: (r) => r._value == 1.0)", "last()"]


def _union(*parts: str) -> str:
    """A stage that reads all parts as one stream of tables."""
    joined = ",\n".join("    " + part.replace("\n", "\n    ") for part in parts)
    return f"union(tables: [\n{joined},\n  ])"


def _weighted_hours(task: Task, field: str, bucket: str, *, fleet: bool = False) -> list[str]:
    """Hours with their windows, and in `_value` a mean of the hour times its windows."""
    where = FLEET if fleet else ()
    return [
        *read(hourly_measurement(task), [field, "windows"], *where, bucket=text(bucket)),
        PIVOT,
        f"map(fn: (r) => ({{r with _value: r.{field} * float(v: r.windows)}}))",
    ]
