#!/usr/bin/env bash
#
# Faust: a commit passes a single unacknowledged record, and any hole when nothing is committed yet
#
# Expected: with stream.noack() the application acknowledges events itself, in any order. Faust
# commits only up to the first record that is not acknowledged, so that a restart delivers it again.
#
# What happens: the check for a hole at the head lets a hole of exactly one record pass, because it
# compares the first acknowledged offset with the committed one by "greater by more than one" and the
# committed offset is already the next one to read. In a group that has not committed anything yet,
# there is no check at all. With two missing records in a group that has committed, it works.
#
# Why it matters: noack() is the obvious tool for "commit when the database has confirmed". A record
# whose confirmation is late alone (the usual case) is committed over and lost by a crash at that
# moment. Acknowledge in order, or keep the bookkeeping of offsets yourself.
#
# Source: own measurement; Kafka is the mock broker of confluent-kafka.
#
# Output seen:
#   faust-streaming 0.15.3, mode-streaming 0.7.1, aiokafka 0.14.0, confluent-kafka 2.16.1
#   group has committed 5, unacknowledged [5]: committed offset 12
#   group has committed 5, unacknowledged [5, 6]: committed offset 5
#   new group, unacknowledged [0, 1]: committed offset 12

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


async def case(name, unacked, start):
    """The committed offset while the agent holds back the events `unacked`, of 12."""
    topic = group = name
    fill(topic, 12)
    if start:
        setter = Consumer({"bootstrap.servers": ADDRESS, "group.id": group})
        setter.commit(offsets=[TopicPartition(topic, 0, start)], asynchronous=False)
        setter.close()
    app = make_app(group, broker_commit_interval=0.5)
    held, seen = [], []

    @app.agent(app.topic(topic, value_serializer="raw"))
    async def work(stream):
        async for event in stream.noack().events():
            seen.append(event.message.offset)
            if event.message.offset in unacked:
                held.append(event)
            else:
                event.ack()

    await app.start()
    for _ in range(150):
        await asyncio.sleep(0.2)
        if len(seen) == 12 - start:
            break
    await asyncio.sleep(2)  # four commit intervals
    offset = await asyncio.to_thread(committed, group, topic)
    begin = f"group has committed {start}" if start else "new group"
    print(f"{begin}, unacknowledged {sorted(unacked)}: committed offset {offset}")
    for event in held:
        event.ack()
    await app.stop()
    return offset


async def main():
    print(", ".join(f"{name} {version(name)}" for name in PACKAGES))
    one = await case("one-missing", {5}, 5)
    two = await case("two-missing", {5, 6}, 5)
    new = await case("new-group", {0, 1}, 0)
    if (one, two, new) != (12, 5, 12):
        sys.exit("CHANGED: expected committed offsets 12, 5 and 12")


asyncio.run(main())
PYTHON

code=0
timeout 170 "$work/venv/bin/python" "$work/check.py" || code=$?
if [ "$code" -gt 1 ]; then
    echo "no verdict: the check ended with status $code" >&2
    exit 2
fi
exit "$code"
