#!/usr/bin/env bash
#
# Faust: on_window_close loses most windows of a table as soon as it has several partitions
#
# Expected: on_window_close is called once for every key and window that expires, however many
# partitions the table has.
#
# What happens: with all keys in one partition every window arrives. With the same keys on four
# partitions, the same windows, and one worker, only a part of them does; the callbacks for some keys
# never come at all. The table remembers one "last closed window" for all keys and partitions, and
# whatever belongs to a partition that is cleaned up later counts as closed already.
#
# Why it matters: emitting a result when a window closes is what windows are for. A test with a single
# partition passes; the production topic with several partitions loses results without any message.
# Close windows in your own code, by event time and per key.
#
# Source: own measurement; Kafka is the mock broker of confluent-kafka. The number of callbacks with
# four partitions varies from run to run.
#
# Output seen:
#   faust-streaming 0.15.3, mode-streaming 0.7.1, aiokafka 0.14.0, confluent-kafka 2.16.1
#   keys on 1 partition(s): 48 records, 48 windows; closed 48 windows of 12 keys
#   keys on 4 partition(s): 48 records, 48 windows; closed 12 windows of 3 keys

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
import time
from importlib.metadata import version

import faust
from confluent_kafka import Producer

logging.disable(logging.CRITICAL)
# The in-process mock broker of confluent-kafka; it lives as long as this producer.
producer = Producer({"bootstrap.servers": "unused:1", "test.mock.num.brokers": 1, "log_level": 3})
broker = next(iter(producer.list_topics(timeout=10).brokers.values()))
ADDRESS = f"{broker.host}:{broker.port}"
PACKAGES = ("faust-streaming", "mode-streaming", "aiokafka", "confluent-kafka")
KEYS, WINDOWS, SIZE = 12, 4, 2


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


async def run(partitions):
    """How many windows were closed, of how many keys, with the keys on so many partitions."""
    group = topic = f"on-{partitions}"
    for name in (topic, f"{group}-sums-changelog"):
        producer.list_topics(name, timeout=10)
    app = make_app(group, table_cleanup_interval=0.5)
    closed, count = [], 0

    def on_close(key, _value):
        closed.append((key[0], key[1][0]))

    sums = app.Table("sums", default=int, partitions=4, on_window_close=on_close).tumbling(
        SIZE, expires=SIZE
    )

    @app.agent(app.topic(topic, key_serializer="raw", value_serializer="raw"))
    async def add(stream):
        nonlocal count
        async for key, value in stream.items():
            sums[key.decode()] += int(value)
            count += 1

    await app.start()
    first = int(time.time() / SIZE) * SIZE
    for window in range(WINDOWS):
        for number in range(KEYS):
            producer.produce(
                topic,
                b"1",
                key=b"device-%d" % number,
                partition=number % partitions,
                timestamp=int((first + SIZE * window + 0.5) * 1000),
            )
        producer.flush(10)
        await asyncio.sleep(SIZE)
    await asyncio.sleep(8)
    await app.stop()
    keys = len({key for key, _ in closed})
    print(
        f"keys on {partitions} partition(s): {count} records, {KEYS * WINDOWS} windows; "
        f"closed {len(set(closed))} windows of {keys} keys"
    )
    return count, len(set(closed))


async def main():
    print(", ".join(f"{name} {version(name)}" for name in PACKAGES))
    whole = KEYS * WINDOWS
    one, several = await run(1), await run(4)
    if not (one == (whole, whole) and several[0] == whole and several[1] < whole):
        sys.exit("CHANGED: all windows were closed on four partitions, or not all on one")


asyncio.run(main())
PYTHON

code=0
timeout 170 "$work/venv/bin/python" "$work/check.py" || code=$?
if [ "$code" -gt 1 ]; then
    echo "no verdict: the check ended with status $code" >&2
    exit 2
fi
exit "$code"
