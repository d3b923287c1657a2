"""The alert rules: what is watched, from when on it is a worry, what a person shall do. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from dashboards.alerts.alert import Group, Rule
from dashboards.queries import alerts as queries
from dashboards.visuals.limits import Limits
from dashboards.visuals.links import ACCOUNT_UID, FLEET_UID, MODEL_UID, PIPELINE_UID

__all__ = ["alert_groups"]


def alert_groups(limits: Limits, task_rules: Sequence[Rule]) -> list[Group]:
    """All rules."""
    return [
        Group("kpstream machines", 60, [*task_rules, _device_silent(limits)]),
        Group(
            "kpstream line",
            30,
            [
                _process_down(limits),
                _process_not_ready(),
                _lag_growing(limits),
                _partition_stuck(limits),
            ],
        ),
        Group(
            "kpstream content",
            60,
            [_dead_letters(limits), _readings_missing(), _model_unhealthy()],
        ),
    ]


def _device_silent(limits: Limits) -> Rule:
    return Rule(
        uid="kpstream-device-silent",
        title="Device silent",
        queries={"silent": queries.SILENT_FOR},
        fires_when="above",
        limit=limits.silent_s,
        look_back_s=86_400,
        for_s=60,
        no_data=("NoData", "no device was heard of for a day: nothing can be said about any"),
        severity="warning",
        summary=(
            "{{ .Labels.site }}/{{ .Labels.device }} has sent nothing on {{ .Labels.stream }} for "
            "{{ humanizeDuration .Values.silent.Value }}"
        ),
        meaning=(
            f"No reading of this stream was received for {limits.silent_s} s, though there was "
            "one within the last day. A device that is taken away for good is forgotten after a "
            "day."
        ),
        action=(
            "Is the machine off on purpose? Then silence the alert. Else look at power, network "
            "and clock of the device. If many devices of a site are silent at once, look at its "
            "broker and at the bridges first (board kpstream: pipeline)."
        ),
        panel=(FLEET_UID, "silent-devices"),
    )


def _process_down(limits: Limits) -> Rule:
    return Rule(
        uid="kpstream-process-down",
        title="Process down",
        queries={"age": queries.PROCESS_AGE},
        fires_when="above",
        limit=limits.process_s,
        look_back_s=21_600,
        for_s=30,
        no_data=("Alerting", "no process has said anything for six hours: the line is down"),
        severity="critical",
        summary=(
            "{{ .Labels.role }} {{ .Labels.gateway }} has said nothing for "
            "{{ humanizeDuration .Values.age.Value }}"
        ),
        meaning=(
            f"The process has written no account for {limits.process_s} s. Nothing is lost: "
            "what it has not confirmed stays in the broker or in the log, and another process or "
            "the restarted one goes on with it."
        ),
        action=(
            "`kpstream site status` (or `systemctl status 'kpstream-*'`) says whether it runs and "
            "its log says why not. If all processes fall silent together, look at Kafka, the store "
            "and InfluxDB: that is the way their accounts take, and they wait there. If the "
            "process was taken away on purpose, silence the alert; it ends by itself after six "
            "hours."
        ),
        panel=(PIPELINE_UID, "processes"),
    )


def _process_not_ready() -> Rule:
    return Rule(
        uid="kpstream-process-not-ready",
        title="Process not ready",
        queries={"not_ready": queries.PROCESS_NOT_READY},
        fires_when="above",
        limit=0.5,
        look_back_s=600,
        for_s=120,
        no_data=("OK", "who says nothing is down, and that has an alert of its own"),
        severity="critical",
        summary="{{ .Labels.role }} {{ .Labels.gateway }} runs, and does not do its job",
        meaning=(
            "The process says that it is not ready: its broker, its log, its store or its student "
            "is missing, or a partition is stuck. Readings wait meanwhile; none is lost."
        ),
        action=(
            "The column Problems on the board says why, in words, and what to do; `/health` of "
            "the process says the same."
        ),
        panel=(PIPELINE_UID, "processes"),
    )


def _lag_growing(limits: Limits) -> Rule:
    return Rule(
        uid="kpstream-lag-growing",
        title="Lag growing",
        queries={"growth": queries.BACKLOG_GROWTH},
        fires_when="above",
        limit=limits.backlog_per_minute,
        look_back_s=600,
        for_s=300,
        no_data=("OK", "who reports no lag is down, and that has an alert of its own"),
        severity="warning",
        summary=(
            "{{ .Labels.group }} falls behind in {{ .Labels.topic }} by "
            '{{ printf "%.0f" .Values.growth.Value }} records a minute'
        ),
        meaning=(
            "For fifteen minutes more has come in than the group could do. Scores and points are "
            "late; they are not lost until the log's retention is over."
        ),
        action=(
            "Group of the workers: add workers, as many as there are partitions at most, or find "
            "the device that sends too much. Group of a store: is InfluxDB slow or away (its "
            "process not ready)? After an outage a growing lag turns by itself."
        ),
        panel=(PIPELINE_UID, "backlog"),
    )


def _partition_stuck(limits: Limits) -> Rule:
    return Rule(
        uid="kpstream-partition-stuck",
        title="Partition stuck",
        queries={"still": queries.STALLED_FOR},
        fires_when="above",
        limit=limits.still_s,
        look_back_s=600,
        for_s=60,
        no_data=("OK", "who reports no lag is down, and that has an alert of its own"),
        severity="critical",
        summary=(
            "{{ .Labels.group }} stands still in a partition of {{ .Labels.topic }} for "
            "{{ humanizeDuration .Values.still.Value }}"
        ),
        meaning=(
            f"A partition has a backlog and has not moved for {limits.still_s} s. The devices in "
            "it get no scores; the others do."
        ),
        action=(
            "The table Partitions names the partition and its process. The watchdog restarts a "
            "worker that makes no progress; if that does not help, its log names the record it "
            "stops at. A store stands still while InfluxDB is away."
        ),
        panel=(PIPELINE_UID, "standing-still"),
    )


def _dead_letters(limits: Limits) -> Rule:
    return Rule(
        uid="kpstream-dead-letters",
        title="Dead letters rising",
        queries={"letters": queries.DEAD_LETTERS_NEW},
        fires_when="above",
        limit=limits.dead_letters,
        look_back_s=600,
        for_s=0,
        no_data=("OK", "no letter was ever written: that is how it should be"),
        severity="warning",
        summary=(
            '{{ printf "%.0f" .Values.letters.Value }} dead letters with the reason '
            "{{ .Labels.reason }} in ten minutes"
        ),
        meaning=(
            f"More than {limits.dead_letters} messages, readings or points were refused for this "
            "reason within ten minutes. They are kept with their raw bytes."
        ),
        action=(
            "`kpstream dead-letters list` shows which devices send them and why. Mend the device "
            "(clock_unset, future: its clock; not_json, wrong_shape: its program; "
            "missing_channel, no_model: the student does not fit the stream), then "
            "`kpstream dead-letters replay` sends them again."
        ),
        panel=(ACCOUNT_UID, "dead-letters-by-reason"),
    )


def _readings_missing() -> Rule:
    return Rule(
        uid="kpstream-readings-missing",
        title="Account does not balance",
        queries={"missing": queries.MISSING_READINGS},
        fires_when="above",
        limit=0.5,
        look_back_s=3_600,
        for_s=0,
        no_data=("OK", "no account changed within the hour"),
        severity="critical",
        summary=(
            '{{ printf "%.0f" .Values.missing.Value }} readings of {{ .Labels.site }}/'
            "{{ .Labels.device }} are unaccounted for"
        ),
        meaning=(
            "Received is more than windowed + duplicate + late + dead letter. This cannot happen; "
            "it is a defect of the product."
        ),
        action=(
            "Keep the log (it holds every reading) and report it with the account of the device "
            "and the versions in use."
        ),
        panel=(ACCOUNT_UID, "account-of-devices"),
    )


def _model_unhealthy() -> Rule:
    return Rule(
        uid="kpstream-model-unhealthy",
        title="Model unhealthy",
        queries={"unhealthy": queries.UNHEALTHY_MODELS, "refused": queries.REFUSED_MODELS},
        fires_when="above",
        limit=0.5,
        look_back_s=600,
        for_s=60,
        no_data=("OK", "no process says what it scores with: it is down, or only a bridge"),
        severity="warning",
        summary=(
            "{{ .Labels.gateway }} refuses version "
            '{{ printf "%.0f" .Values.refused.Value }} of {{ .Labels.model }}, or has none'
        ),
        meaning=(
            "The newest version of the student was refused (damaged, or not fit for the windows "
            "that are open) or there is none at all (version 0). The version before it keeps "
            "scoring where there is one."
        ),
        action=(
            "The column Error on the board says why. Publish a mended version, or point back with "
            "`kpstream models promote`. Where no version scores, windows are counted as unscored "
            "until there is one."
        ),
        panel=(MODEL_UID, "models-now"),
    )
