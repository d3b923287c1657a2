"""Metrics of other formats: every counter, with the mapping as its label."""

from __future__ import annotations

from ingest.mapping.counters import MappingCounters
from pipeline.console.formatmetrics import mapping_metrics, sparkplug_metrics


def samples(families: object) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels.get("mapping", "")): sample.value
        for family in families  # type: ignore[attr-defined]
        for sample in family.samples
    }


def test_every_counter_of_every_mapping_is_a_metric() -> None:
    plugs, meters = MappingCounters(messages_total=5, refused_total=2), MappingCounters()
    meters.join.values_total, meters.join.late_total = 9, 1
    status = {
        "in_force": {"plugs": {"is_former": True}, "meters": {"is_former": False}},
        "faults": {"plugs": "not TOML"},
        "joining": 3,
        "waiting": 4,
        "streams_removed_total": 1,
        "counters": {
            "plugs": plugs.as_dict(joins=False),
            "meters": meters.as_dict(joins=True),
        },
    }
    found = samples(mapping_metrics(status))
    assert found["kpstream_mapping_in_force", "plugs"] == 0
    assert found["kpstream_mapping_in_force", "meters"] == 1
    assert found["kpstream_mapping_faults", ""] == 1
    assert found["kpstream_mapping_messages_total", "plugs"] == 5
    assert found["kpstream_mapping_refused_total", "plugs"] == 2
    assert found["kpstream_mapping_join_late_total", "meters"] == 1
    assert ("kpstream_mapping_join_late_total", "plugs") not in found
    assert found["kpstream_mapping_waiting", ""] == 4
    names = {name for name, _ in found}
    for name in meters.as_dict(joins=True):
        assert f"kpstream_mapping_{name}" in names


def test_without_other_formats_there_are_no_metrics() -> None:
    assert list(mapping_metrics({})) == list(sparkplug_metrics({})) == []
