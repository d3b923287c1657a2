"""The general alert rules: conditions, limits, and what an operator should do. Pure.

The rules of a task are in its file in `dashboards.boards`; `alert_groups` adds them to the first
group. Names of groups are part of Grafana's addresses and never change.
"""

from __future__ import annotations

from collections.abc import Sequence

from dashboards.alerts.alert import Group, Rule
from dashboards.alerts.rollout_rules import rollout_rules
from dashboards.queries import alerts as queries
from dashboards.queries import drift
from dashboards.queries.alerts import LOSS_SHOWN_S
from dashboards.visuals.limits import Limits
from dashboards.visuals.links import ACCOUNT_UID, FLEET_UID, MODEL_UID, PIPELINE_UID
from models.tasks.contract import Task

__all__ = ["alert_groups"]


def alert_groups(limits: Limits, tasks: Sequence[Task], task_rules: Sequence[Rule]) -> list[Group]:
    """All rules of a site, in groups."""
    return [
        Group("kpstream machines", 60, [*task_rules, _device_silent(limits), _doubtful(tasks)]),
        Group(
            "kpstream line",
            30,
            [
                _process_down(limits),
                _process_not_ready(),
                _session_lost(),
                _backlog_growing(limits),
                _partition_stuck(limits),
            ],
        ),
        Group(
            "kpstream content",
            60,
            [
                _dead_letters(limits),
                _evicted(),
                _readings_missing(),
                _model_unhealthy(),
                _stream_drifted(),
            ],
        ),
        Group("kpstream rollout", 60, rollout_rules()),
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
        no_data=("NoData", "no device has reported for a day, so the state of all is unknown"),
        severity="warning",
        summary=(
            "{{ .Labels.site }}/{{ .Labels.device }} has sent nothing on {{ .Labels.stream }} for "
            "{{ humanizeDuration .Values.silent.Value }}"
        ),
        meaning=(
            f"No reading of this stream has arrived for {limits.silent_s} s, although one arrived "
            "within the last day. The alert of a device that was removed ends after a day."
        ),
        action=(
            "If the machine is off on purpose, silence the alert. Otherwise check power, network "
            "and clock of the device. If many devices of a site are silent at once, check its "
            "broker and the bridges first (board kpstream: pipeline)."
        ),
        panel=(FLEET_UID, "silent-devices"),
    )


def _doubtful(tasks: Sequence[Task]) -> Rule:
    return Rule(
        uid="kpstream-doubtful",
        title="Scores in doubt",
        queries={"doubtful": drift.doubtful_scores(tasks)},
        fires_when="above",
        limit=0.5,
        look_back_s=3_600,
        for_s=60,
        no_data=("OK", "no device was scored within the hour; silent devices have their own alert"),
        severity="warning",
        summary=(
            "Scores of {{ .Labels.site }}/{{ .Labels.device }} on {{ .Labels.stream }} are doubtful"
        ),
        meaning=(
            "For a minute the readings of this device have not been of the kind that its student "
            "has learned: out of range, in another unit, without movement, too slow, or mostly "
            "made up; or the student finds them unlike those that it has learned from. The "
            "student scores them nevertheless, and its answer means little. A doubtful remaining "
            "life raises no alert, unless it is only unfamiliar and even the upper end of its "
            "interval is below the limit of *Machine due*."
        ),
        action=(
            "Read the reason in the panel; it names the channels. A unit or a constant channel is "
            "a fault of the device or of its mapping: mend it. If the machine really works there, "
            "train a student on its readings (docs/drift.md)."
        ),
        panel=(FLEET_UID, "doubtful-now"),
    )


def _stream_drifted() -> Rule:
    return Rule(
        uid="kpstream-drift",
        title="Stream has drifted",
        queries={"drifted": drift.STREAMS_DRIFTED},
        fires_when="above",
        limit=0.5,
        look_back_s=21_600,
        for_s=0,
        no_data=("OK", "no stream was judged within six hours; that takes 200 windows of it"),
        severity="warning",
        summary="The stream {{ .Labels.stream }} has drifted from what its student has learned",
        meaning=(
            "Over its newest windows the readings of the stream have another shape than any part "
            "of training, a fifth of the windows is doubtful, many resemble no class, or forecasts "
            "miss more than they promise."
        ),
        action=(
            "Read the reason in the panel, or run `kpstream drift`. If a device or its mapping is "
            "at fault, mend it. If the world has changed, train a new student on newer readings "
            "(docs/drift.md)."
        ),
        panel=(MODEL_UID, "drift-now"),
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
        no_data=("Alerting", "no process has reported for six hours, so the pipeline is down"),
        severity="critical",
        summary=(
            "{{ .Labels.role }} {{ .Labels.gateway }} has not reported for "
            "{{ humanizeDuration .Values.age.Value }}"
        ),
        meaning=(
            f"The process has written no account for {limits.process_s} s. Nothing is lost: "
            "unconfirmed messages stay in the broker or in the log until another process, or this "
            "one after a restart, continues with them."
        ),
        action=(
            "Run `kpstream site status` (or `systemctl status 'kpstream-*'`) to see whether the "
            "process runs, and read its log. If all processes stop reporting together, check "
            "Kafka, the store and InfluxDB, because accounts take this way and wait there. If the "
            "process was removed on purpose, silence the alert; it ends after six hours."
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
        no_data=("OK", "a process that does not report is down, which has its own alert"),
        severity="critical",
        summary="{{ .Labels.role }} {{ .Labels.gateway }} runs but is not ready",
        meaning=(
            "The process reports that it is not ready: its broker, log, store or student is "
            "missing, or a partition is stuck. Readings wait until it is ready. None is lost, "
            "unless the reason says that the broker cannot keep messages."
        ),
        action=(
            "Read the column Problems on the board, or `/health` of the process: both give the "
            "reason and what to do."
        ),
        panel=(PIPELINE_UID, "processes"),
    )


def _session_lost() -> Rule:
    return Rule(
        uid="kpstream-session-lost",
        title="Session lost at the broker",
        queries={"lost": queries.SESSION_LOST},
        fires_when="above",
        limit=0.5,
        look_back_s=600,
        for_s=0,
        no_data=("OK", "no broker has forgotten a session, as it should be"),
        severity="critical",
        summary="the broker of {{ .Labels.role }} {{ .Labels.gateway }} has forgotten its session",
        meaning=(
            "At its last connect or at an earlier one, the broker no longer had the session of the "
            "bridge. Messages that it had taken for the bridge since the connection before are "
            f"lost. The alert lasts for {LOSS_SHOWN_S // 3600} hours after each loss."
        ),
        action=(
            "Compare `session_expiry_s` in `announced` of the part `bridge` in `/health` with how "
            "long the bridge was away, and check that the broker keeps sessions over its own "
            "restart (docs/delivery.md, What a broker announces). Let devices send the missing "
            "time again where they can; copies are harmless."
        ),
        panel=(PIPELINE_UID, "processes"),
    )


def _backlog_growing(limits: Limits) -> Rule:
    return Rule(
        uid="kpstream-lag-growing",
        title="Backlog growing",
        queries={"growth": queries.BACKLOG_GROWTH},
        fires_when="above",
        limit=limits.backlog_per_minute,
        look_back_s=600,
        for_s=300,
        no_data=("OK", "a process that reports no backlog is down, which has its own alert"),
        severity="warning",
        summary=(
            "{{ .Labels.group }} falls behind in {{ .Labels.topic }} by "
            '{{ printf "%.0f" .Values.growth.Value }} records a minute'
        ),
        meaning=(
            "For fifteen minutes more records have arrived than the group has processed. Scores "
            "and points are late; they are lost only if the backlog outlasts the retention of the "
            "log."
        ),
        action=(
            "For the group of the workers, add workers (at most one per partition), or find the "
            "device that sends too much. For the group of a store, check whether InfluxDB is slow "
            "or down (the store is then not ready). After an outage a growing backlog shrinks "
            "again without help."
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
        no_data=("OK", "a process that reports no backlog is down, which has its own alert"),
        severity="critical",
        summary=(
            "{{ .Labels.group }} has made no progress in a partition of {{ .Labels.topic }} for "
            "{{ humanizeDuration .Values.still.Value }}"
        ),
        meaning=(
            f"A partition has a backlog and has made no progress for {limits.still_s} s. Its "
            "devices get no scores; all others do."
        ),
        action=(
            "Find the partition and its process in the table Partitions. The watchdog restarts a "
            "worker that makes no progress; if that does not help, its log names the record at "
            "which it stops. A store makes no progress while InfluxDB is down."
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
        no_data=("OK", "no dead letter has been written, as it should be"),
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
            "Run `kpstream dead-letters list` to see which devices send them and why. Fix the "
            "device (clock_unset, future: its clock; not_json, wrong_shape: its program; "
            "missing_channel, no_model: the student does not fit the stream), then run `kpstream "
            "dead-letters replay` to send them again."
        ),
        panel=(ACCOUNT_UID, "dead-letters-by-reason"),
    )


def _evicted() -> Rule:
    return Rule(
        uid="kpstream-evicted",
        title="Dead letters evicted",
        queries={"evicted": queries.EVICTED_NEW},
        fires_when="above",
        limit=0.5,
        look_back_s=600,
        for_s=0,
        no_data=("OK", "no gateway has evicted anything, or none reports"),
        severity="warning",
        summary=(
            "{{ .Labels.role }} {{ .Labels.gateway }} has deleted "
            '{{ printf "%.0f" .Values.evicted.Value }} dead letters or late readings in ten minutes'
        ),
        meaning=(
            "Topics that no group reads, such as the dead letters, have filled their share of the "
            "log. The sender that holds most loses its oldest records for good; those of other "
            "senders stay."
        ),
        action=(
            "Read the part `archive` in `/health`: it names the topic and the sender. Stop what it "
            "sends, and look at what is kept with `kpstream dead-letters list`. To keep more, "
            "raise `KPSTREAM_GATEWAY_LOG_MAX_MB` (docs/delivery.md, What nobody reads)."
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
        no_data=("OK", "no account has changed within the hour"),
        severity="critical",
        summary=(
            '{{ printf "%.0f" .Values.missing.Value }} readings of {{ .Labels.site }}/'
            "{{ .Labels.device }} are unaccounted for"
        ),
        meaning=(
            "More readings were received than windowed, duplicate, corrected, late and dead "
            "letters together. Only a defect of kpstream can cause this."
        ),
        action=(
            "Keep the log, which holds every reading, and report the defect with the account of "
            "the device and the versions in use."
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
        no_data=("OK", "no process that scores has reported; one that is down has its own alert"),
        severity="warning",
        summary=(
            "{{ .Labels.gateway }} refuses version "
            '{{ printf "%.0f" .Values.refused.Value }} of {{ .Labels.model }}, or has none'
        ),
        meaning=(
            "The process has refused the newest version of the model (damaged, or not fit for the "
            "windows that are open), or it has no version at all (version 0). The version before, "
            "if there is one, keeps scoring."
        ),
        action=(
            "Read the column Error on the board. Publish a corrected version, or return to an "
            "older one with `kpstream models promote`. While no version scores, windows are "
            "counted as unscored."
        ),
        panel=(MODEL_UID, "models-now"),
    )
