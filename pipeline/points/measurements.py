"""The table of measurements: tags, fields, types and units, as data. Pure.

One table for the code that writes points (`pipeline.points`), stores them (`pipeline.stores`) and
shows them (`pipeline.console`, `dashboards`).

- Scores: one measurement per task (`score_measurement`), one point per window; the time is the end
  of the window (event time). A task may have details (`detail_measurement`): further points of a
  score, each with its own time.
- Accounts: `device`, `gateway`, `lag`, `dead_letters`, `model`; the time is when they were read,
  except for `device`, whose time is that of the latest message plus a count of nanoseconds (see
  `pipeline.points.accounts`). Counters grow until the process that counts restarts, and then begin
  again at 0.
- Explanations: `explanation`, one point per alert-level score that was explained, with the tags
  and the time of the score.
- Labels: `label`, one point per label (`ingest.labels`); the time is its beginning, with a count of
  nanoseconds that follows from its id, so that labels of one moment stay apart.
- Marks: `rollout`, one point per change of a model; the time is when it happened.
- Drift: `drift`, whether a stream still reads what its student has learned; the time is when it was
  judged.
- Rollouts from a centre: `rollout_state`, what a student of a gateway does in its release, as the
  gateway reports it, and `release`, how far a release has come, as the centre sees it.
- Hours: `device_hourly` and one measurement per task (`hourly_measurement`), made of the above
  inside InfluxDB (`pipeline.stores.influxlayout`); the time is the beginning of the hour.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from models.tasks.contract import Field, Task
from models.tasks.quality import QUALITY
from models.tasks.registry import tasks

__all__ = [
    "COUNTER_FIELDS",
    "DEAD_LETTERS",
    "DEVICE",
    "DEVICE_HOURLY",
    "DRIFT",
    "EXPLANATION",
    "GATEWAY",
    "LABEL",
    "LAG",
    "MODEL",
    "OPTIONAL_SCORE_FIELDS",
    "RELEASE",
    "ROLES",
    "ROLLOUT",
    "ROLLOUT_EVENTS",
    "ROLLOUT_STATE",
    "SCORE_FIELDS",
    "SCORE_TAGS",
    "SHADOW",
    "Measurement",
    "detail_measurement",
    "hourly_measurement",
    "measurements",
    "score_measurement",
]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measurement: a point of it is identified by the tags and its time."""

    name: str
    tags: tuple[str, ...]
    fields: tuple[Field, ...]
    about: str

    def field(self, name: str) -> Field:
        """The field of this name.

        Raises:
            KeyError: The measurement has no such field.
        """
        for field in self.fields:
            if field.name == name:
                return field
        msg = f"{self.name} has no field {name!r}"
        raise KeyError(msg)


ROLES = ("gateway", "bridge", "worker", "store")
"""Values of the tag `role` of `gateway`; the role `gateway` has all parts in one process."""

ROLLOUT_EVENTS = ("swapped", "refused", "took_over", "fell_back")
"""Values of the tag `event` of `rollout`.

A process swapped a version or refused one (its own account); in a release of the centre a version
took over on a gateway, or the gateway fell back (its report).
"""


def _int(name: str, unit: str, about: str, *, always: bool = True) -> Field:
    return Field(name, "int", unit, about, always=always)


def _float(name: str, unit: str, about: str, *, always: bool = True) -> Field:
    return Field(name, "float", unit, about, always=always)


def _text(name: str, about: str, *, always: bool = True) -> Field:
    return Field(name, "text", "", about, always=always)


def _count(name: str, unit: str, about: str, *, always: bool = True) -> Field:
    return Field(name, "int", unit, about, grows=True, always=always)


SCORE_TAGS = ("site", "device", "stream", "model")
"""Tags of every score."""

SCORE_FIELDS = (
    _int("version", "1", "version of the student that scored the window"),
    _int("start_ms", "ms", "first event time in the window, epoch"),
    _int("readings", "readings", "readings in the window"),
    _int("gaps", "gaps", "missing stretches inside the window"),
    _int("latency_ms", "ms", "from the last reading's receipt to the score"),
    _float("made_up", "1", "share of resampled readings with no reading near", always=False),
    _float("rate_hz", "Hz", "readings per second in the window, as they came", always=False),
    _int("run_ms", "ms", "event time at which the resampling began, epoch", always=False),
    _text(QUALITY, "good, or why the score is doubtful", always=False),
)
"""Fields of every score, whatever its task; they follow those of the task.

`made_up`, `rate_hz` and `run_ms` belong to resampled windows (`pipeline.windows.resample`). Scores
of earlier versions lack `quality` (`models.tasks.quality`).
"""

OPTIONAL_SCORE_FIELDS = tuple(field for field in SCORE_FIELDS if not field.always)
"""Those that a score may lack; a score record has them under their names."""

COUNTER_FIELDS = (
    _count("received", "readings", "readings received; the sum of the next five"),
    _count("windowed", "readings", "accepted into windows"),
    _count("duplicate", "readings", "received before"),
    _count("corrected", "readings", "other versions of a windowed reading"),
    _count("late", "readings", "older than the watermark"),
    _count("dead_lettered", "readings", "refused with a reason"),
    _count("gaps", "gaps", "missing stretches in the readings"),
    _count("windows", "windows", "windows closed"),
)
"""Counters of readings: received = windowed + duplicate + corrected + late + dead_lettered."""

DEVICE = Measurement(
    "device",
    ("site", "device", "stream"),
    (
        *COUNTER_FIELDS,
        _int("last_event_ms", "ms", "largest event time, epoch", always=False),
        _int("last_recv_ms", "ms", "latest receive time, epoch", always=False),
    ),
    "the account of one stream of one device; written when it has changed",
)

GATEWAY = Measurement(
    "gateway",
    ("gateway", "role"),
    (
        _int("alive", "1", "1 while the process works"),
        _int("ready", "1", "1 while it is ready"),
        _text("problems", "reasons why it is not ready; empty if it is"),
        _int("started_ms", "ms", "when the process started, epoch; changes at a restart"),
        _int("rss_bytes", "bytes", "resident memory"),
        _count("cpu_ms", "ms", "CPU time of the process"),
        _int("connected", "1", "1 while the bridge is connected to its broker", always=False),
        _count("sessions_lost", "sessions", "forgotten by the broker at a connect", always=False),
        _int("session_lost_ms", "ms", "when the last of them was noticed, epoch", always=False),
        _float("log_fill", "1", "share of the log's disk cap in use", always=False),
        _count("evicted", "records", "unread ones deleted for a greedy sender", always=False),
        *(
            Field(f.name, f.kind, f.unit, f"{f.about}, all devices", grows=True, always=False)
            for f in COUNTER_FIELDS
        ),
        _count("messages_received", "messages", "received over MQTT", always=False),
        _count("messages_logged", "messages", "durable in the log", always=False),
        _count("messages_dead_lettered", "messages", "refused by the bridge", always=False),
        _count("scored", "scores", "scores appended to the log", always=False),
        _count("unscored", "windows", "closed windows without a score", always=False),
        _count("stored", "points", "points that a store confirmed", always=False),
        _count("refused_points", "points", "points that a store refused", always=False),
        *(
            _float(f"{span}_{quantile}_ms", "ms", f"{about}, last minute", always=False)
            for span, about in (
                ("sensor_to_score", "event time to score"),
                ("receive_to_score", "receipt to score"),
                ("sensor_to_stored", "event time to stored point"),
            )
            for quantile in ("p50", "p99")
        ),
    ),
    "one process: its counters and its state; a role has the fields of its parts",
)

LAG = Measurement(
    "lag",
    ("gateway", "group", "topic", "partition"),
    (
        _int("end_offset", "records", "offset of the next record"),
        _int("committed", "records", "offset at which the group continues", always=False),
        _int("backlog", "records", "appended, but not committed by the group"),
        _int("still_ms", "ms", "time without progress although there is a backlog"),
    ),
    "progress of one consumer group in one partition, as a process sees it",
)

DEAD_LETTERS = Measurement(
    "dead_letters",
    ("gateway", "reason"),
    (_count("count", "dead letters", "written by this process since it started"),),
    "refused messages, readings and points by reason",
)

MODEL = Measurement(
    "model",
    ("gateway", "model", "task", "stream"),
    (
        _int("version", "1", "version that scores now; 0: none"),
        _int("healthy", "1", "1 while a version scores and none newer was refused"),
        _int("refused_version", "1", "version refused last and not superseded; 0: none"),
        _text("error", "reason of the refusal; empty without one"),
    ),
    "the student that scores a stream in one process",
)

ROLLOUT = Measurement(
    "rollout",
    ("gateway", "model", "stream", "event"),
    (
        _int("version", "1", "the version that took over, or was refused"),
        _text("text", "one line for an annotation"),
    ),
    "a mark: a version took over, was refused, or failed and the former one came back",
)

ROLLOUT_STATE = Measurement(
    "rollout_state",
    ("gateway", "model"),
    (
        _text("group", "group of the gateway; empty without one"),
        _int("release", "1", "number of the release that the student follows; 0: none"),
        _text("phase", "champion, shadow, probation, failed, held or waiting"),
        _int("version", "1", "version that scores; 0: none"),
        _int("candidate", "1", "version of the release; 0: none"),
        _int("since_ms", "ms", "beginning of the phase, epoch"),
        _int("windows", "windows", "windows compared in this phase"),
        _int("nonfinite_permille", "permille", "windows without a finite score", always=False),
        _int("latency_us", "us", "99th percentile of the time for a batch", always=False),
        _int("latency_percent", "percent", "of the other student's time", always=False),
        _int("disagreement_permille", "permille", "mean disagreement", always=False),
        _int("psi_permille", "permille", "population stability index", always=False),
        _int("spread_percent", "percent", "spread of the other student's scores", always=False),
        _int("unknown_permille", "permille", "unknown windows", always=False),
        _int("error_percent", "percent", "of the other student's live error", always=False),
        _int("coverage_permille", "permille", "interval coverage", always=False),
        _text("reason", "why it failed, is held or waits; empty otherwise"),
        _text("fetch", "state of the centre as the gateway sees it"),
        _text("software", "version of kpstream"),
        _int("disk_free_mb", "MB", "free disk at the state folder"),
    ),
    "a student of a gateway and the release that it follows",
)

RELEASE = Measurement(
    "release",
    ("model",),
    (
        _int("number", "1", "number of the release"),
        _int("version", "1", "version that it brings"),
        _text("state", "running, paused, aborted or complete"),
        _text("reason", "why it paused or was aborted, or what it waits for"),
        _int("step", "1", "current step, from 1"),
        _int("steps", "1", "steps of the plan"),
        _int("percent", "percent", "share of the gateways in the current step"),
        _int("step_since_ms", "ms", "beginning of the step, epoch"),
        _int("gateways", "gateways", "gateways that the centre knows"),
        _int("members", "gateways", "members of the current step, and failed ones"),
        _int("healthy", "gateways", "members that run it in good health"),
        _int("waiting", "gateways", "members that compare, or have not begun"),
        _int("failed", "gateways", "gateways that judged it unhealthy"),
        _int("held", "gateways", "members that are held or pinned"),
        _int("silent", "gateways", "members that have not reported for long"),
    ),
    "how far a release has come",
)

SHADOW = Measurement(
    "shadow",
    SCORE_TAGS,
    (
        _int("version", "1", "version of the challenger"),
        _int("against", "1", "version of the student that it is compared with"),
        _float("disagreement", "1", "how far the two are apart over this window, 0 to 1"),
        _text("challenger", "what the challenger answers"),
        _text("champion", "what the other student answers"),
    ),
    "no score: the window over which a challenger and the other student differ most, one a second",
)

DRIFT = Measurement(
    "drift",
    ("gateway", "site", "device", "stream", "channel"),
    (
        _float("psi", "1", "population stability index of the channel", always=False),
        _float("limit", "1", "largest index that is no drift", always=False),
        _int("windows", "windows", "newest windows over which the shape is judged"),
        _int("drifted", "1", "1 while a sign is beyond its limit"),
        _int("devices", "devices", "devices among the windows, at most 20", always=False),
        _float("flagged", "1", "share of the last 200 windows that are doubtful", always=False),
        _float("unknown", "1", "share of the last 500 that resemble no class", always=False),
        _float("covered", "1", "share of readings inside the forecast interval", always=False),
        _int("version", "1", "version of the student", always=False),
        _int("since_ms", "ms", "when the drift was first seen, epoch; 0: none", always=False),
        _text("text", "why it is a drift; empty if it is none", always=False),
    ),
    "whether the readings of a stream are still those that its student learned; site, device and "
    "channel are * for all of them",
)

EXPLANATION = Measurement(
    "explanation",
    SCORE_TAGS,
    (
        _text("channel", "the channel whose readings moved the score most"),
        _int("from_ms", "ms", "first event time of the span that mattered most, epoch"),
        _int("until_ms", "ms", "last event time of that span, epoch"),
        _float("importance", "1", "effect of the channel, in the unit that the text names"),
        _text("text", "the explanation in one sentence"),
        _int("version", "1", "version of the student that explains"),
    ),
    "why a score is at alert level; its time is that of the score",
)

LABEL = Measurement(
    "label",
    ("site", "device", "stream", "kind"),
    (
        _text("id", "name of the label within its stream"),
        _text("label", "what happened; empty if the kind says it"),
        _int("from_ms", "ms", "beginning, or the moment, epoch"),
        _int("to_ms", "ms", "end, epoch; of a moment its beginning"),
        _int("recv_ms", "ms", "when it was received, epoch; of two with one id the later counts"),
        _text("by", "who says so; empty if unknown"),
        _int("revoked", "1", "1 if it no longer holds", always=False),
    ),
    "what people say about a device: failed, replaced, span, confirmed or wrong",
)

DEVICE_HOURLY = Measurement(
    "device_hourly",
    DEVICE.tags,
    tuple(f for f in DEVICE.fields if f.grows),
    "the account of one stream of one device at the end of an hour",
)


@lru_cache(maxsize=64)
def score_measurement(task: Task) -> Measurement:
    """The measurement of a task's scores; its name is `task.measurement`."""
    return Measurement(task.measurement, SCORE_TAGS, (*task.fields, *SCORE_FIELDS), task.about)


@lru_cache(maxsize=64)
def detail_measurement(task: Task) -> Measurement:
    """The measurement of the further points of a task's scores.

    Raises:
        ValueError: The task has none.
    """
    details = task.details
    if details is None:
        msg = f"task {task.name!r} has no details: set `details` in its file"
        raise ValueError(msg)
    return Measurement(
        details.measurement, (*SCORE_TAGS, *details.tags), details.fields, details.about
    )


@lru_cache(maxsize=64)
def hourly_measurement(task: Task) -> Measurement:
    """The measurement of a task's hours.

    Raises:
        ValueError: The task has no hours.
    """
    if task.hourly is None:
        msg = f"task {task.name!r} has no hours: set `hourly` in its file"
        raise ValueError(msg)
    parts = task.hourly.fields
    tags = (*SCORE_TAGS, *(part.source for part in parts if part.function == "values"))
    fields = tuple(part.field for part in parts)
    return Measurement(f"{task.measurement}_hourly", tags, fields, task.hourly.about)


def measurements() -> tuple[Measurement, ...]:
    """All measurements that the pipeline writes."""
    scores = map(score_measurement, tasks())
    details = (detail_measurement(task) for task in tasks() if task.details)
    accounts = (DEVICE, GATEWAY, LAG, DEAD_LETTERS, MODEL, ROLLOUT, ROLLOUT_STATE, RELEASE)
    return (*scores, *details, EXPLANATION, SHADOW, DRIFT, LABEL, *accounts)
