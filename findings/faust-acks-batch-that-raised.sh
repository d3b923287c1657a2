#!/usr/bin/env bash
#
# Faust: an exception in an agent acknowledges the records that caused it, with take() the whole batch
#
# Expected: a stream processor with "at least once" semantics doesn't commit a record whose processing
# failed. After an exception in the agent's body, Faust delivers the record again, at the latest after
# a restart.
#
# What happens: whatever ends the agent's body acknowledges the event in hand; an exception does so as
# well. Faust restarts the agent with the record after it and commits to the end of the topic. With
# stream.take(4) the whole batch of four is acknowledged. A restart of the app delivers none of them
# again, and nothing but a traceback in the log says so.
#
# Why it matters: an agent that writes batches to a database and lets the database's error escape
# loses the batch at every outage. Catch everything inside the body: retry there, pass bad records to
# a dead-letter topic, and give up by app.crash(), which commits nothing.
#
# Source: own measurement; Kafka is the mock broker of confluent-kafka.
#
# Output seen:
#   faust-streaming 0.15.3, mode-streaming 0.7.1, aiokafka 0.14.0, confluent-kafka 2.16.1
#   12 records, take(4); batch [4, 5, 6, 7] raised once
#   batches seen: [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
#   worked on to the end: [0, 1, 2, 3, 8, 9, 10, 11]
#   committed offset: 12
#   after a restart of the app, with one record more: [12]
#   never worked on to the end: [4, 5, 6, 7]

set -euo pipefail

if ! command -v python3 >/dev/null; then
    echo "no verdict: the program python3 is missing" >&2
    exit 2
fi

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
if ! "$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    faust-streaming==0.15.3 \
    mode-streaming==0.7.1 \
    aiokafka==0.14.0 \
    confluent-kafka==2.16.1; then
    echo "no verdict: the packages cannot be installed" >&2
    exit 2
fi

cat >"$work/check.py" <<'PYTHON'
import asyncio
import logging
import sys
from importlib.metadata import version

import faust
from confluent_kafka import Consumer, Producer, TopicPartition

logging.disable(logging.CRITICAL)
# The in-process mock broker of confluent-kafka; it lives as long as this producer.
producer = Producer({"bootstrap.servers": "unused:1", "test.mock.num.brokers": 1, "log_level": 3})
broker = next(iter(producer.list_topics(timeout=10).brokers.values()))
ADDRESS = f"{broker.host}:{broker.port}"
PACKAGES = ("faust-streaming", "mode-streaming", "aiokafka", "confluent-kafka")
TOPIC, GROUP = "readings", "writer"


def make_app(app_id, **settings):
    return faust.App(
        app_id,
        broker=f"kafka://{ADDRESS}",
        store="memory://",
        topic_partitions=4,
        topic_allow_declare=False,  # the mock broker makes topics when they are asked for
        topic_disable_leader=True,
        web_enabled=False,
        **settings,
    )


def fill(topic, count):
    producer.list_topics(topic, timeout=10)
    for number in range(count):
        producer.produce(topic, str(number).encode(), partition=0)
    producer.flush(10)


def committed(group, topic):
    reader = Consumer({"bootstrap.servers": ADDRESS, "group.id": group})
    try:
        return reader.committed([TopicPartition(topic, 0)], timeout=10)[0].offset
    finally:
        reader.close()


async def run(batches, fails_at=None, until=lambda: False):
    """Run the app until the condition holds; the numbers that were worked on to the end."""
    app = make_app(
        GROUP, broker_commit_interval=0.5, broker_session_timeout=6, broker_heartbeat_interval=1
    )
    done, failed = [], []

    @app.agent(app.topic(TOPIC, value_serializer="raw"))
    async def write(stream):
        async for values in stream.take(4, within=1):
            numbers = [int(value) for value in values]
            batches.append(numbers)
            if fails_at in numbers and not failed:
                failed.append(numbers)
                raise RuntimeError("the database is away")
            done.extend(numbers)

    await app.start()
    for _ in range(150):
        await asyncio.sleep(0.2)
        if await asyncio.to_thread(until):
            break
    await app.stop()
    return done, failed


async def main():
    print(", ".join(f"{name} {version(name)}" for name in PACKAGES))
    fill(TOPIC, 12)
    batches = []
    done, failed = await run(batches, 5, lambda: committed(GROUP, TOPIC) == 12)
    offset = committed(GROUP, TOPIC)
    print(f"12 records, take(4); batch {failed[0]} raised once")
    print(f"batches seen: {batches}")
    print(f"worked on to the end: {done}")
    print(f"committed offset: {offset}")

    producer.produce(TOPIC, b"12", partition=0)
    producer.flush(10)
    again = []
    done_again, _ = await run(again, until=lambda: 12 in sum(again, []))
    print(f"after a restart of the app, with one record more: {done_again}")
    lost = set(failed[0]) - set(done) - set(done_again)
    print(f"never worked on to the end: {sorted(lost)}")
    if not (offset == 12 and lost == set(failed[0]) and 12 in done_again):
        sys.exit("CHANGED: the batch that raised was delivered again")


asyncio.run(main())
PYTHON

code=0
timeout 170 "$work/venv/bin/python" "$work/check.py" || code=$?
if [ "$code" -gt 1 ]; then
    echo "no verdict: the check ended with status $code" >&2
    exit 2
fi
exit "$code"
