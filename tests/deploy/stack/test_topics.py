"""The topics in code are those that the product's agents read and write."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.stack.servers import KafkaServer
from deploy.stack.topics import changelog_topic, site_topics
from ingest.topics import EXAMPLES, LOG_TOPICS


def test_every_log_topic_and_the_changelog_have_a_spec() -> None:
    names = [spec.name for spec in site_topics(12, "plant")]
    assert sorted(names) == sorted([*LOG_TOPICS, EXAMPLES, "plant-score-windows-changelog"])


def test_all_topics_have_the_same_partitions() -> None:
    assert {spec.partitions for spec in site_topics(7)} == {7}


def test_labels_and_changelog_are_compacted_and_nothing_of_them_is_dropped_by_age() -> None:
    compacted = [spec for spec in site_topics(4) if spec.cleanup_policy == "compact"]
    assert [spec.name for spec in compacted] == ["labels", "examples", changelog_topic("kpstream")]
    assert [spec.settings()["retention.ms"] for spec in compacted] == ["-1", "-1", "-1"]
    labels = compacted[0].settings()
    assert labels["cleanup.policy"] == "compact,delete"  # a size, because senders make up ids
    assert int(labels["retention.bytes"]) * 4 == 256 * 1024**2


def test_a_day_without_store_or_worker_loses_nothing() -> None:
    day_ms = 24 * 3_600_000
    for spec in site_topics(4):
        assert spec.retention_ms is None or spec.retention_ms >= day_ms


def test_retention_does_not_depend_on_the_clock_of_a_client() -> None:
    for spec in site_topics(4):
        assert spec.settings()["message.timestamp.type"] == "LogAppendTime"


def test_the_changelog_has_the_name_that_the_app_gives_it(tmp_path: Path) -> None:
    from pipeline.app import create_scoring_app
    from pipeline.settings import PipelineSettings

    app = create_scoring_app(
        f"sqlite://{tmp_path}/log.db",
        PipelineSettings(app_id="plant"),
        lambda stream: None,
        lambda stream: pytest.fail("nothing is scored"),
        data_dir=tmp_path,
    )
    assert changelog_topic("plant") == f"{app.app.conf.id}-windows-changelog"
    app.stage.close()


@pytest.mark.needs_kafka_server
async def test_kafka_takes_every_setting(real_kafka: KafkaServer) -> None:
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    specs = site_topics(2, "taken")
    admin = AIOKafkaAdminClient(bootstrap_servers=real_kafka.address)
    await admin.start()
    try:
        topics = [
            NewTopic(f"spec-{spec.name}", spec.partitions, 1, topic_configs=spec.settings())
            for spec in specs
        ]
        answer = await admin.create_topics(topics)
        assert [error[1] for error in answer.topic_errors] == [0] * len(specs)
        await admin.delete_topics([topic.name for topic in topics])
    finally:
        await admin.close()
