"""Two logs under one contract: the local file and Kafka's protocol, spoken by an in-process broker.

Tests of the contract take `broker` and run once per implementation; see `test_log_transport.py`.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import faust
import pytest

_names = itertools.count()


class SqliteBroker:
    """A log file; every test has its own."""

    kind = "sqlite"

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log.db"
        self.url = f"sqlite://{self.path}"

    def declare(self, *topics: str) -> None:
        """Do nothing: the subscription creates the topics."""

    def settings(self) -> dict[str, Any]:
        return {}


class KafkaBroker:
    """confluent-kafka's mock broker: in memory, one for all tests, topics with four partitions."""

    kind = "kafka"

    def __init__(self) -> None:
        from confluent_kafka import Producer  # optional: the marker has skipped without it

        self._client = Producer(
            {"test.mock.num.brokers": 1, "bootstrap.servers": "unused:1", "log_level": 0}
        )
        (member,) = self._client.list_topics(timeout=10).brokers.values()
        self.url = f"kafka://{member.host}:{member.port}"

    def declare(self, *topics: str) -> None:
        """Request each topic, which creates it; the mock has no CreateTopics."""
        for topic in topics:
            self._client.list_topics(topic, timeout=10)

    def settings(self) -> dict[str, Any]:
        return {
            "topic_allow_declare": False,
            "producer_acks": -1,
            "broker_session_timeout": 3.0,
            "broker_rebalance_timeout": 0.5,
            "broker_heartbeat_interval": 0.3,
        }


class Names:
    """Names that no other test uses, and applications with these names."""

    def __init__(self, broker: SqliteBroker | KafkaBroker) -> None:
        self.broker = broker
        n = next(_names)
        self.topic = f"readings-{n}"
        self.group = f"group-{n}"

    def app(self, group: str | None = None, *tables: str, **settings: Any) -> faust.App:
        """An application with its own group on the shared broker."""
        group = group or self.group
        self.broker.declare(self.topic, *(f"{group}-{table}-changelog" for table in tables))
        options: dict[str, Any] = {
            "broker_commit_interval": 0.1,
            "store": "memory://",
            "topic_disable_leader": True,
            "topic_partitions": 4,
            "table_standby_replicas": 0,
            "web_enabled": False,
            **self.broker.settings(),
            **settings,
        }
        return faust.App(group, broker=self.broker.url, **options)

    def readings(self, app: faust.App) -> Any:
        """The source topic: raw keys and values."""
        return app.topic(self.topic, key_serializer="raw", value_serializer="raw", partitions=4)


@asynccontextmanager
async def running(*apps: faust.App) -> AsyncIterator[None]:
    """Start applications, wait until they deliver, stop them at the end."""
    for app in apps:
        app.finalize()
    await asyncio.gather(*(app.start() for app in apps))
    try:
        for app in apps:
            await eventually(lambda app=app: app.tables.recovery.completed.is_set())
        yield
    except BaseException:  # a failed test gives no acks: don't wait for them
        for app in apps:
            app.conf.stream_wait_empty = False
        raise
    finally:
        await asyncio.gather(*(app.stop() for app in apps))


async def eventually(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait until `condition` holds and return its value; fail after a time limit."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {condition}")
        await asyncio.sleep(0.005)
    return value


@pytest.fixture(scope="session")
def kafka_broker() -> Iterator[KafkaBroker]:
    yield KafkaBroker()


@pytest.fixture
def sqlite_broker(tmp_path: Path) -> SqliteBroker:
    """The local log."""
    return SqliteBroker(tmp_path)


@pytest.fixture(
    params=["sqlite", pytest.param("kafka", marks=pytest.mark.needs_kafka_mock)],
)
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> SqliteBroker | KafkaBroker:
    """Each implementation of the log."""
    if request.param == "sqlite":
        return SqliteBroker(tmp_path)
    return request.getfixturevalue("kafka_broker")


@pytest.fixture
def names(broker: SqliteBroker | KafkaBroker) -> Names:
    """Fresh topic and group names on the broker."""
    return Names(broker)


@pytest.fixture
def start() -> Callable[..., Any]:
    """`running`, for tests that can't import a conftest."""
    return running


@pytest.fixture
def wait() -> Callable[..., Any]:
    """`eventually`, for tests that can't import a conftest."""
    return eventually


@pytest.fixture(autouse=True)
def _faust_keeps_its_files_out_of_the_tree(tmp_path: Path, monkeypatch: Any) -> None:
    """Change the working directory, because Faust creates a folder per application there."""
    monkeypatch.setenv("APP_DATADIR", str(tmp_path / "faust"))
