"""Queries over the scores of a task that answers with a number, such as RUL. Pure.

Ends of intervals are read where the task has them. A student may be published without an interval;
what asks for the lower end, such as an alert, then takes the number itself.
"""

from __future__ import annotations

from dashboards.queries.flux import Where, names, pipe, read, text
from dashboards.queries.query import ColumnType, Query, Shape, per_series, table
from dashboards.queries.scores import FLEET, NEWEST_COLUMNS, ONE_DEVICE, SERIES, newest_scores
from dashboards.queries.stages import PIVOT, every
from models.tasks.contract import Task
from models.tasks.number import NumberAnswer
from models.tasks.quality import GOOD, QUALITY, UNFAMILIAR
from pipeline.points.measurements import hourly_measurement, score_measurement

__all__ = [
    "alert_score",
    "device_number",
    "device_number_now",
    "interval_width",
    "lowest_devices",
    "lowest_end",
    "number_below",
    "number_history",
    "number_now",
    "number_of_fleet",
    "number_of_models",
]


def number_now(task: Task) -> Query:
    """Newest score of every device, the lowest first."""
    fields = _fields(task)
    columns: dict[str, ColumnType] = {"site": "text", "device": "text", "model": "text"}
    columns |= dict.fromkeys(fields, "float")
    return table(
        f"{task.name}_now",
        newest_scores(task, fields),
        columns | NEWEST_COLUMNS,
        sort=[_end(task)],
    )


def lowest_end(task: Task, limit: float | None = None) -> Query:
    """Smallest lower end among the newest scores; see `lowest_devices`."""
    return per_series(f"{task.name}_lowest_end", _lowest(task, limit, 1), ())


def lowest_devices(task: Task, limit: float | None = None) -> Query:
    """The ten devices with the smallest lower ends.

    Doubtful scores are left out, but for those that are surely below the limit of an alert.
    """
    return per_series(f"{task.name}_lowest", _lowest(task, limit, 10), SERIES)


def number_below(task: Task, limit: float) -> Query:
    """Number of devices whose lower end is below the limit."""
    return Query(
        f"{task.name}_below",
        pipe(
            _newest_ends(task, limit, *FLEET),
            "group()",
            f"map(fn: (r) => ({{r with _value: if r._value < {float(limit)} then 1 else 0}}))",
            "sum()",
        ),
        Shape("table", {"_value": "int"}),
    )


def number_of_fleet(task: Task) -> Query:
    """Lowest score, lowest tenth and median of the fleet."""
    steps = pipe(
        read(score_measurement(task), [_answer(task).field], *FLEET),
        every("last"),
        'group(columns: ["_time"])',
    )
    return per_series(
        f"{task.name}_of_fleet",
        [
            "union(tables: [\n"
            '    steps |> min() |> set(key: "devices", value: "lowest"),\n'
            '    steps |> quantile(q: 0.1) |> set(key: "devices", value: "lowest tenth"),\n'
            '    steps |> median() |> set(key: "devices", value: "middle"),\n'
            "  ])",
        ],
        ("devices",),
        head=f"steps = {steps}\n\n",
    )


def number_of_models(task: Task) -> Query:
    """Mean score, by model."""
    return per_series(
        f"{task.name}_of_models",
        [
            *read(score_measurement(task), [_answer(task).field], *FLEET),
            every("mean"),
            'group(columns: ["model", "_time"])',
            "mean()",
        ],
        ("model",),
    )


def interval_width(task: Task) -> Query:
    """Mean width of the intervals, by model."""
    low, high = _answer(task).low_field, _answer(task).high_field
    return per_series(
        f"{task.name}_interval_width",
        [
            *read(score_measurement(task), [low, high], *FLEET),
            every("mean"),
            PIVOT,
            f"filter(fn: (r) => exists r.{low} and exists r.{high})",
            f"map(fn: (r) => ({{r with _value: r.{high} - r.{low}}}))",
            'group(columns: ["model", "_time"])',
            "mean()",
        ],
        ("model",),
    )


def device_number(task: Task) -> Query:
    """Scores of one device with the ends of their intervals."""
    return per_series(
        f"device_{task.name}",
        [*read(score_measurement(task), _fields(task), *ONE_DEVICE), every("mean")],
        ("_field", *SERIES),
    )


def device_number_now(task: Task) -> Query:
    """Newest score of one device with the ends of its interval."""
    return per_series(
        f"device_{task.name}_now",
        [*read(score_measurement(task), _fields(task), *ONE_DEVICE), "last()"],
        ("_field", *SERIES),
    )


def number_history(task: Task, bucket: str) -> Query:
    """Scores of one device by hour: their mean, the lowest lower end and the highest upper end."""
    answer = _answer(task)
    wanted = [(answer.field, "mean"), (answer.low_field, "min"), (answer.high_field, "max")]
    hourly = hourly_measurement(task)
    parts = task.hourly.fields if task.hourly else ()
    by_source = {(part.source, part.function): part.field.name for part in parts}
    fields = [by_source[key] for key in wanted if key in by_source]
    return per_series(
        f"{task.name}_history",
        read(hourly, fields, *ONE_DEVICE, bucket=text(bucket)),
        ("_field", *SERIES),
    )


def alert_score(task: Task, field: str, limit: float) -> Query:
    """One field of the newest score of every device, for an alert below `limit`.

    For the lower end, a score without one gives its number.
    """
    steps = [*read(score_measurement(task), [field]), "last()"]
    if field == _answer(task).low_field:
        steps = _newest_ends(task, limit)
    return per_series(f"alert_{field}", steps, SERIES)


def _answer(task: Task) -> NumberAnswer:
    if not isinstance(task.answer, NumberAnswer):
        msg = f"task {task.name!r} does not answer with a number: query it by its own fields"
        raise TypeError(msg)
    return task.answer


def _fields(task: Task) -> list[str]:
    """The field of the number, then those of the ends of its interval if it has one."""
    answer = _answer(task)
    return [name for name in (answer.field, answer.low_field, answer.high_field) if name]


def _end(task: Task) -> str:
    """The field of the lower end; of the number itself if the task has no intervals."""
    return _answer(task).low_field or _answer(task).field


def _lowest(task: Task, limit: float | None, count: int) -> list[str]:
    return [
        *_newest_ends(task, limit, *FLEET),
        "group()",
        'sort(columns: ["_value"])',
        f"limit(n: {count})",
    ]


def _newest_ends(task: Task, limit: float | None, *filters: Where) -> list[str]:
    """Steps to the lower end of the newest score of every stream, or to its number without one.

    The stream may have had another student before, whose last score says nothing any more.

    A doubtful score has none: it is due for no reason that its readings could give. One that is
    only unfamiliar has one if even its upper end is below the limit (`Task.is_alarming`). In place
    of a score without one comes the newest that has one, so that doubt ends no alarm; its row holds
    the field `due_field` alone. Points of earlier versions lack that field.
    """
    answer = _answer(task)
    number, high, due = answer.field, answer.high_field, task.due_field
    low = answer.low_field or number
    is_told = f"not exists r.{QUALITY} or r.{QUALITY} == {text(GOOD)}"
    if high and limit is not None and task.alarms_unfamiliar is not None:
        is_sure = f"exists r.{high} and r.{high} < {float(limit)}"
        is_told += f" or (r.{QUALITY} == {text(UNFAMILIAR)} and {is_sure})"
    found = f"if exists r.{low} then r.{low} else r.{number}"
    if due:
        is_told = f"exists r.{due} or (exists r.{number} and ({is_told}))"
        found = f"if exists r.{due} then r.{due} else {found}"
    fields = [name for name in dict.fromkeys((number, low, high, due)) if name]
    return [
        *read(score_measurement(task), [*fields, QUALITY], *filters),
        "last()",
        PIVOT,
        f"filter(fn: (r) => {is_told})",
        f"group(columns: {names(('site', 'device', 'stream'))})",
        'sort(columns: ["_time"])',
        "tail(n: 1)",
        f"map(fn: (r) => ({{r with _value: {found}}}))",
        f"drop(columns: {names([*fields, QUALITY])})",
    ]
