"""Alert rules: their form, their texts, and that they fire for failures only."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from dashboards.alerts.alert import Rule, duration
from dashboards.queries import numbers
from dashboards.site import SiteDashboards, is_uid, site_dashboards
from dashboards.visuals.limits import Limits
from models.tasks.rul import RUL
from pipeline.points.accounts import Accounts
from pipeline.points.measurements import DRIFT, LAG
from pipeline.points.points import Point
from pipeline.points.scores import points_of
from pipeline.status.counters import Totals
from tests.dashboards.simulated_site import SILENT, START_MS, STOP_MS, SimulatedProcess
from tests.fakes.duecases import DUE_CASES, DUE_COURSES
from tests.fakes.grafana_alerts import Alert, firing
from tests.fakes.grafana_checks import rule_flaws

LIMITS = Limits(rul_cycles=20, silent_s=150)
SITE = site_dashboards(LIMITS)
RULES = [rule for group in SITE.groups for rule in group.rules]


def rule_json(uid: str, site: SiteDashboards = SITE) -> dict:
    rules = [rule for group in site.groups for rule in site.group_json(group)["rules"]]
    return next(rule for rule in rules if rule["uid"] == uid)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.uid)
def test_rule_satisfies_the_provisioning_api(rule: Rule) -> None:
    assert rule_flaws(rule_json(rule.uid)) == []
    assert is_uid(rule.uid)


def test_uids_and_titles_are_unique() -> None:
    assert len({rule.uid for rule in RULES}) == len({rule.title for rule in RULES}) == len(RULES)


def test_every_kind_of_failure_has_a_rule() -> None:
    assert {rule.uid.removeprefix("kpstream-") for rule in RULES} >= {
        "rul-low",
        "anomaly",
        "coverage-low",
        "device-silent",
        "process-down",
        "lag-growing",
        "dead-letters",
        "model-unhealthy",
    }


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.uid)
def test_no_data_and_errors_are_decided_and_explained(rule: Rule) -> None:
    page = rule_json(rule.uid)
    assert page["noDataState"] in {"OK", "NoData", "Alerting"}
    assert page["execErrState"] == "Error", "a failing query must not hide an alert"
    state, why = rule.no_data
    assert page["annotations"]["no_data"] == f"{state}: {why}"
    assert len(why) > 20


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.uid)
def test_texts_use_only_existing_labels_and_values(rule: Rule) -> None:
    labels = set.intersection(*(set(query.shape.labels) for query in rule.queries.values()))
    texts = rule.annotations()
    assert set(texts) >= {"summary", "description", "action"}
    assert all(len(texts[name]) > 20 for name in ("summary", "description", "action"))
    everything = " ".join(texts.values())
    assert set(re.findall(r"\.Labels\.(\w+)", everything)) <= labels
    assert set(re.findall(r"\.Values\.(\w+)", everything)) <= set(rule.queries)
    assert "$" not in everything, "Grafana would replace it by an environment variable"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.uid)
def test_commands_in_the_texts_exist(rule: Rule) -> None:
    from deploy.cli import main

    known = {"kpstream site status"}  # has its own tests
    for words in re.findall(r"`(kpstream [^`]*)`", rule.action + rule.meaning):
        command = main
        for word in words.split()[1:]:
            if words in known or word.startswith("-"):
                break
            command = command.get_command(None, word)
            assert command is not None, words


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.uid)
def test_rule_links_to_an_existing_panel(rule: Rule) -> None:
    texts = rule_json(rule.uid)["annotations"]
    panels = SITE.board_json(texts["__dashboardUid__"])["panels"]
    assert [p["id"] for p in panels].count(int(texts["__panelId__"])) == 1


def test_limits_reach_the_rules() -> None:
    site = site_dashboards(
        Limits(
            rul_cycles=33,
            silent_s=44,
            process_s=55,
            backlog_per_minute=66,
            still_s=77,
            dead_letters=88,
            coverage=0.61,
        )
    )
    limits = {rule.uid: rule.limit for group in site.groups for rule in group.rules}
    assert set(limits.values()) == {33, 44, 55, 66, 77, 88, 0.61, 0.5}


def test_file_form_equals_the_api_form() -> None:
    for rule in RULES:
        page = rule_json(rule.uid)
        file = rule.file_json(SITE.boards, source_uid=SITE.source.uid)
        for key in set(page) - {"orgID", "folderUID", "ruleGroup"}:
            assert file[key] == page[key]
        assert file["dashboardUid"] == page["annotations"]["__dashboardUid__"]
        assert str(file["panelId"]) == page["annotations"]["__panelId__"]


@pytest.mark.parametrize("seconds", [0, 30, 60, 90, 300, 3600, 86_400, 90_061])
def test_duration_has_the_form_that_grafana_returns(seconds: int) -> None:
    units = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
    parts = re.findall(r"(\d+)([dhms])", duration(seconds))
    assert sum(int(number) * units[unit] for number, unit in parts) == seconds


# ---------------------------------------------------------------------------- what fires, and when


@pytest.fixture
def alerts_of(query_influx):
    """`alerts_of(uid, later_s=0, site=...)` gives the alerts of a rule `later_s` after the run."""

    def evaluate(uid: str, later_s: int = 0, site: SiteDashboards = SITE) -> list[Alert] | None:
        stop_ms = STOP_MS + 1000 * later_s

        def send(flux: str, look_back_s: int):
            return query_influx(flux, start_ms=stop_ms - 1000 * look_back_s, stop_ms=stop_ms)

        return firing(rule_json(uid, site), send)

    return evaluate


@pytest.mark.needs_influxd
def test_worn_machines_are_due_with_their_interval_in_the_summary(alerts_of, site_points) -> None:
    newest: dict[str, dict] = {}
    told: dict[str, bool] = {}
    for point in sorted(site_points, key=lambda p: p.time_ns):
        if point.measurement == "rul":
            device, fields = dict(point.tags)["device"], dict(point.fields)
            newest[device] = fields
            if (is_due := RUL.is_alarming(fields)) is not None:
                told[device] = is_due
    alerts = alerts_of("kpstream-rul-low")
    due = {device for device, is_due in told.items() if is_due}
    assert {alert.labels["device"] for alert in alerts} == due
    assert 0 < len(due) < len(newest), "some are due, some are not"
    # One is worn further than those learned from: its alarm stands, though its score is in doubt.
    assert {newest[device]["quality"] for device in due} == {"good", "unfamiliar"}
    alert = alerts[0]
    score = newest[alert.labels["device"]]
    rule = next(rule for rule in RULES if rule.uid == "kpstream-rul-low")
    assert alert.text(rule.summary) == (
        f"hangar/{alert.labels['device']} has {score['rul']:.0f} cycles left "
        f"({score['rul_low']:.0f} to {score['rul_high']:.0f})"
    )
    assert set(alert.labels) == {"site", "device", "model"}


@pytest.mark.needs_influxd
def test_a_machine_stays_due_while_it_is_off(alerts_of) -> None:
    now, later = alerts_of("kpstream-rul-low"), alerts_of("kpstream-rul-low", later_s=3600)
    assert [a.labels for a in now] == [a.labels for a in later]
    assert alerts_of("kpstream-rul-low", later_s=2 * 86_400) is None


@pytest.mark.needs_influxd
def test_a_limit_below_all_machines_fires_for_none(alerts_of) -> None:
    assert alerts_of("kpstream-rul-low", site=site_dashboards(Limits(rul_cycles=0))) == []


@pytest.mark.needs_influxd
def test_silent_devices_are_named(alerts_of) -> None:
    silent = {alert.labels["device"] for alert in alerts_of("kpstream-device-silent")}
    assert SILENT in silent
    assert not {"person-01", "person-02"} & silent
    everybody = alerts_of("kpstream-device-silent", later_s=600)
    assert {"person-01", "person-02"} <= {alert.labels["device"] for alert in everybody}
    rule = next(rule for rule in RULES if rule.uid == "kpstream-device-silent")
    texts = [alert.text(rule.summary) for alert in everybody]
    assert "clinic/person-01 has sent nothing on imu for 10m 5s" in texts


@pytest.mark.needs_influxd
def test_processes_are_down_when_they_do_not_report(alerts_of) -> None:
    assert alerts_of("kpstream-process-down") == []
    assert {alert.labels["role"] for alert in alerts_of("kpstream-process-down", later_s=90)} == {
        "bridge",
        "worker",
        "store",
    }
    assert alerts_of("kpstream-process-down", later_s=86_400) is None, "the rule has no data"


@pytest.mark.needs_influxd
def test_a_process_fires_only_while_it_is_not_ready(alerts_of) -> None:
    assert alerts_of("kpstream-process-not-ready") == []
    during = alerts_of("kpstream-process-not-ready", later_s=-235)  # the bridge had no broker
    assert [alert.labels["role"] for alert in during] == ["bridge"]


@pytest.mark.needs_influxd
def test_a_backlog_that_shrinks_again_does_not_fire(alerts_of) -> None:
    assert alerts_of("kpstream-lag-growing") == []


@pytest.mark.needs_influxd
def test_a_growing_backlog_fires_with_its_slope(query_influx, store_points) -> None:
    """Two partitions fall behind by 40 records a minute each; one has a handover."""
    points = []
    for second in range(0, 900, 10):
        for partition in (0, 1):
            gateway = "w-2" if partition and second > 500 else "w-1"
            tags = {"gateway": gateway, "group": "g", "topic": "t", "partition": str(partition)}
            backlog = 40 * second // 60
            fields = (("end_offset", 10_000 + backlog), ("backlog", backlog), ("still_ms", 0))
            at_ns = (START_MS + 1000 * second) * 1_000_000
            points.append(Point(LAG.name, tuple(tags.items()), fields, at_ns))
    store_points("dashboards-growth", points)

    def alerts(limit: float) -> list[Alert] | None:
        site = site_dashboards(Limits(backlog_per_minute=limit))
        stop_ms = START_MS + 900_000

        def send(flux: str, look_back_s: int):
            start_ms = stop_ms - 1000 * look_back_s
            return query_influx(
                flux, start_ms=start_ms, stop_ms=stop_ms, bucket="dashboards-growth"
            )

        return firing(rule_json("kpstream-lag-growing", site), send)

    (alert,) = alerts(60)
    assert alert.labels == {"group": "g", "topic": "t"}
    assert alert.values["growth"] == pytest.approx(80, rel=0.05)
    assert alerts(100) == []


@pytest.mark.needs_influxd
def test_a_stalled_partition_fires(alerts_of) -> None:
    site = site_dashboards(Limits(still_s=10))
    assert alerts_of("kpstream-partition-stuck", site=site) == []
    stuck = alerts_of("kpstream-partition-stuck", later_s=-300 + 136, site=site)
    assert {alert.labels["topic"] for alert in stuck} == {"readings", "scores"}
    assert all(alert.values["still"] >= 10 for alert in stuck)


@pytest.mark.needs_influxd
def test_dead_letters_fire_by_reason(alerts_of, site_points) -> None:
    alerts = alerts_of("kpstream-dead-letters")
    assert [alert.labels["reason"] for alert in alerts] == ["not_json"]
    assert alerts[0].values["letters"] > LIMITS.dead_letters


@pytest.mark.needs_influxd
def test_a_burst_of_a_new_reason_fires(query_influx, store_points) -> None:
    process = SimulatedProcess(sums=Totals(dead_letters={}))
    accounts = Accounts(process, "b-1", "bridge", START_MS - 600_000)
    points = accounts.points(START_MS)
    accounts.confirm()
    process.sums = Totals(dead_letters={"future": 500})
    points += accounts.points(START_MS + 5_000)
    store_points("dashboards-burst", points)

    def send(flux: str, look_back_s: int):
        stop_ms = START_MS + 60_000
        start_ms = stop_ms - 1000 * look_back_s
        return query_influx(flux, start_ms=start_ms, stop_ms=stop_ms, bucket="dashboards-burst")

    (alert,) = firing(rule_json("kpstream-dead-letters"), send)
    assert (alert.labels, alert.values) == ({"reason": "future"}, {"letters": 500})


@pytest.mark.needs_influxd
def test_a_refused_version_fires_with_its_number(alerts_of) -> None:
    alerts = alerts_of("kpstream-model-unhealthy")
    assert [(a.labels["model"], a.values["refused"]) for a in alerts] == [("har-waist", 2)]
    rule = next(rule for rule in RULES if rule.uid == "kpstream-model-unhealthy")
    assert alerts[0].text(rule.summary).startswith("site-worker-1 refuses version 2 of har-waist")


@pytest.mark.needs_influxd
def test_accounts_of_a_healthy_site_balance(alerts_of) -> None:
    assert alerts_of("kpstream-readings-missing") == []


def test_a_rule_with_an_unknown_panel_is_refused() -> None:
    rule = replace(RULES[0], panel=("kpstream-fleet", "gone"))
    with pytest.raises(KeyError, match="no panel 'gone'"):
        rule.file_json(SITE.boards, source_uid="x")


@pytest.mark.needs_influxd
def test_a_doubtful_score_alarms_as_such_and_not_as_a_machine_that_is_due(
    query_influx, store_points
) -> None:
    def score(device: str, low: float, quality: str | None, at_ms: int = STOP_MS - 1_000) -> Point:
        tags = (("site", "hall"), ("device", device), ("stream", "engine"), ("model", "rul"))
        fields: tuple = (("rul", low + 5.0), ("rul_low", low), ("rul_high", low + 9.0))
        extra = () if quality is None else (("quality", quality),)
        return Point("rul", tags, fields + extra, at_ms * 1_000_000)

    points = [
        score("worn", 3.0, "good"),
        score("old-version", 3.0, None),
        score("odd", 3.0, "range: T24, T30"),
        score("mended", 3.0, "unit: T24 (K)", STOP_MS - 9_000),
        score("mended", 90.0, "good"),
    ]
    store_points("dashboards-doubt", points)

    def send(flux: str, look_back_s: int):
        start_ms = STOP_MS - 1000 * look_back_s
        return query_influx(flux, start_ms=start_ms, stop_ms=STOP_MS, bucket="dashboards-doubt")

    due = firing(rule_json("kpstream-rul-low"), send)
    assert {alert.labels["device"] for alert in due} == {"worn", "old-version"}
    (doubt,) = firing(rule_json("kpstream-doubtful"), send)
    assert (doubt.labels["device"], doubt.labels["stream"]) == ("odd", "engine")


@pytest.mark.needs_influxd
@pytest.mark.parametrize("bucket", ["dashboards-due", "dashboards-due-earlier"])
def test_machine_due_and_the_board_judge_scores_as_gateways_do(
    query_influx, store_points, bucket: str
) -> None:
    """Also scores that a store of an earlier version has written."""
    points = {
        "dashboards-due": points_of([case.record(STOP_MS - 1_000) for case in DUE_CASES]),
        "dashboards-due-earlier": [case.point(STOP_MS - 1_000) for case in DUE_CASES],
    }[bucket]
    store_points(bucket, points)

    def send(flux: str, look_back_s: int = 86_400):
        start_ms = STOP_MS - 1000 * look_back_s
        here = {"bucket": bucket, "variables": {"site": "ALL", "model": "ALL"}}
        return query_influx(flux, start_ms=start_ms, stop_ms=STOP_MS, **here)

    due = firing(rule_json("kpstream-rul-low"), send)
    want = {case.device for case in DUE_CASES if case.is_due}
    assert {alert.labels["device"] for alert in due} == want
    (lost,) = (alert for alert in due if alert.labels["device"] == "lost-and-surely-due")
    text = lost.text(rule_json("kpstream-rul-low")["annotations"]["summary"])
    assert text == "hall/lost-and-surely-due has 5 cycles left (0 to 20)"
    (count,) = send(numbers.number_below(RUL, LIMITS.rul_cycles).flux)
    assert count.fields[-1].values == [len(want)]


@pytest.mark.needs_influxd
def test_doubt_neither_raises_nor_ends_an_alarm(query_influx, store_points) -> None:
    cases = {case.device: case for case in DUE_CASES}
    records, standing = [], set()
    for device, names in DUE_COURSES.items():
        is_due = False
        for place, name in enumerate(names):
            at_ms = STOP_MS - 10_000 + 1_000 * place
            records.append(cases[name].record(at_ms, device))
            told = RUL.is_alarming(records[-1])
            is_due = is_due if told is None else told
        if is_due:
            standing.add(device)
    store_points("dashboards-held", points_of(records))
    earlier = "of-an-earlier-version"  # its points lack `rul_due`
    old = [cases["worn"].point(STOP_MS - 9_000, earlier)]
    store_points("dashboards-held-old", [*old, cases["healthy"].point(STOP_MS - 8_000, earlier)])

    def due(bucket: str) -> set[str]:
        def send(flux: str, look_back_s: int):
            start_ms = STOP_MS - 1000 * look_back_s
            return query_influx(flux, start_ms=start_ms, stop_ms=STOP_MS, bucket=bucket)

        return {alert.labels["device"] for alert in firing(rule_json("kpstream-rul-low"), send)}

    assert due("dashboards-held") == standing
    assert len(standing) == 4
    assert due("dashboards-held-old") == set()


@pytest.mark.needs_influxd
def test_the_last_score_of_a_former_student_says_nothing_any_more(
    query_influx, store_points
) -> None:
    cases = {case.device: case for case in DUE_CASES}
    records = []
    for device, names in {
        "due-before": ("worn", "healthy"),
        "due-now": ("healthy", "worn"),
        "due-before-and-now-in-doubt": ("worn", "out-of-range"),
    }.items():
        for place, name in enumerate(names):
            record = cases[name].record(STOP_MS - 10_000 + 1_000 * place, device)
            record["model"] = ("former", "present")[place]
            records.append(record)
    store_points("dashboards-replaced", points_of(records))

    def send(flux: str, look_back_s: int = 86_400):
        start_ms = STOP_MS - 1000 * look_back_s
        here = {"variables": {"site": "ALL", "model": "ALL"}, "bucket": "dashboards-replaced"}
        return query_influx(flux, start_ms=start_ms, stop_ms=STOP_MS, **here)

    due = {alert.labels["device"] for alert in firing(rule_json("kpstream-rul-low"), send)}
    assert due == {"due-now", "due-before-and-now-in-doubt"}
    (count,) = send(numbers.number_below(RUL, LIMITS.rul_cycles).flux)
    assert count.fields[-1].values == [2]


@pytest.mark.needs_influxd
def test_a_stream_that_has_drifted_alarms_whichever_process_saw_it(
    query_influx, store_points
) -> None:
    def judged(gateway: str, stream: str, drifted: int, device: str = "*") -> Point:
        tags = tuple(zip(DRIFT.tags, (gateway, device, device, stream, "*"), strict=True))
        return Point("drift", tags, (("drifted", drifted),), (STOP_MS - 1_000) * 1_000_000)

    points = [
        judged("worker-1", "imu", 0),
        judged("worker-2", "imu", 1),
        judged("worker-1", "engine", 0),
        judged("worker-1", "engine", 1, device="press-1"),
    ]
    store_points("dashboards-drift", points)

    def send(flux: str, look_back_s: int):
        start_ms = STOP_MS - 1000 * look_back_s
        return query_influx(flux, start_ms=start_ms, stop_ms=STOP_MS, bucket="dashboards-drift")

    (alert,) = firing(rule_json("kpstream-drift"), send)
    assert alert.labels == {"stream": "imu"}


@pytest.mark.needs_influxd
def test_the_undisturbed_site_has_not_drifted(alerts_of) -> None:
    assert alerts_of("kpstream-drift") == []


@pytest.mark.needs_influxd
def test_doubtful_are_the_engines_whose_newest_scores_are_flagged(alerts_of, site_points) -> None:
    newest = {}
    for point in sorted(site_points, key=lambda p: p.time_ns):
        if point.measurement == "rul":
            newest[dict(point.tags)["device"]] = dict(point.fields)["quality"]
    # One simulated engine is worn further than those that rul-fd001 has learned from.
    assert [quality for quality in newest.values() if quality != "good"] == ["unfamiliar"]
    doubtful = {alert.labels["device"] for alert in alerts_of("kpstream-doubtful")}
    assert doubtful == {device for device, quality in newest.items() if quality != "good"}
