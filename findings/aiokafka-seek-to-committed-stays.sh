#!/usr/bin/env bash
#
# aiokafka: seek_to_committed() leaves a partition without a committed offset where it is
#
# Expected: after seek_to_committed() the consumer reads everything again that is not committed. Where
# nothing is committed, that is the beginning (auto_offset_reset="earliest"), the same place at which
# a restarted consumer of the group begins.
#
# What happens: partitions with a committed offset go back to it. A partition that the group has never
# committed keeps its position: what was fetched and not committed is not read again. The call raises
# nothing; None as the offset of that partition in the result is the only sign. A restarted consumer
# does begin at the first record.
#
# Why it matters: Faust 0.15.3 throws away what it has fetched while its flow is stopped and then calls
# this method to read it again. On a new topic or with a new group, before the first commit, the
# records that it threw away don't come back until a restart, and the first commit after that passes
# them. Call seek_to_beginning() for partitions whose offset in the result is None.
#
# Source: own measurement; Kafka is the mock broker of confluent-kafka. We saw the loss in Faust during a
# rebalance under load, and could not reproduce it in isolation, because it depends on timing; this
# script shows the part that does not.
#
# Output seen:
#   aiokafka 0.14.0, confluent-kafka 2.16.1
#   partition 0, committed 2:
#     offsets read first: [2, 3, 4, 5, 6, 7, 8, 9]
#     result of seek_to_committed(): 2
#     offsets read after it: [2, 3, 4, 5, 6, 7, 8, 9]
#     offsets read by a new consumer of the group: [2, 3, 4, 5, 6, 7, 8, 9]
#   partition 1, never committed:
#     offsets read first: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
#     result of seek_to_committed(): None
#     offsets read after it: []
#     offsets read by a new consumer of the group: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]

set -euo pipefail

if ! command -v python3 >/dev/null; then
    echo "no verdict: the program python3 is missing" >&2
    exit 2
fi

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
if ! "$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    aiokafka==0.14.0 \
    confluent-kafka==2.16.1; then
    echo "no verdict: the packages cannot be installed" >&2
    exit 2
fi

cat >"$work/check.py" <<'PYTHON'
import asyncio
import sys
from importlib.metadata import version

from aiokafka import AIOKafkaConsumer, TopicPartition
from confluent_kafka import Producer

TOPIC, COUNT, COMMITTED = "readings", 10, 2
producer = Producer({"bootstrap.servers": "unused:1", "test.mock.num.brokers": 1, "log_level": 3})
broker = next(iter(producer.list_topics(TOPIC, timeout=10).brokers.values()))
ADDRESS = f"{broker.host}:{broker.port}"
WITH, WITHOUT = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)


async def read(consumer):
    """The offsets of what comes, by partition, until nothing more comes."""
    offsets = {WITH: [], WITHOUT: []}
    while batch := await consumer.getmany(timeout_ms=3000):
        for partition, records in batch.items():
            offsets[partition] += [record.offset for record in records]
    return offsets[WITH], offsets[WITHOUT]


def make_consumer():
    return AIOKafkaConsumer(
        bootstrap_servers=ADDRESS,
        group_id="readers",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )


async def main():
    print(f"aiokafka {version('aiokafka')}, confluent-kafka {version('confluent-kafka')}")
    for number in range(COUNT):
        for partition in (WITH, WITHOUT):
            producer.produce(TOPIC, b"%d" % number, partition=partition.partition)
    producer.flush(10)

    consumer = make_consumer()
    await consumer.start()
    consumer.assign([WITH, WITHOUT])
    await consumer.commit({WITH: COMMITTED})
    first = await read(consumer)
    result = await consumer.seek_to_committed()
    again = await read(consumer)
    await consumer.stop()

    consumer = make_consumer()
    await consumer.start()
    consumer.assign([WITH, WITHOUT])
    restarted = await read(consumer)
    await consumer.stop()

    titles = (f"partition 0, committed {COMMITTED}", "partition 1, never committed")
    for index, title in enumerate(titles):
        print(f"{title}:")
        print(f"  offsets read first: {first[index]}")
        print(f"  result of seek_to_committed(): {result[(WITH, WITHOUT)[index]]}")
        print(f"  offsets read after it: {again[index]}")
        print(f"  offsets read by a new consumer of the group: {restarted[index]}")
    everything, rest = list(range(COUNT)), list(range(COMMITTED, COUNT))
    if first != (rest, everything) or restarted != (rest, everything):
        sys.exit("CHANGED: a consumer does not begin at the committed offset or the first record")
    if again != (rest, []):
        sys.exit("CHANGED: seek_to_committed() also moves a partition without a committed offset")


asyncio.run(main())
PYTHON

code=0
timeout 90 "$work/venv/bin/python" "$work/check.py" || code=$?
if [ "$code" -gt 1 ]; then
    echo "no verdict: the check ended with status $code" >&2
    exit 2
fi
exit "$code"
