#!/usr/bin/env bash
#
# Faust: when the buffers of all partitions are nearly full, the consumer sleeps for a full second
#
# Expected: back-pressure holds records back while an agent has enough, and fetching goes on as soon
# as a buffer has room again. A worker with a backlog is never idle.
#
# What happens: Faust stops fetching a partition whose share of the stream buffer (stream_buffer_maxsize,
# 4096 by default) is nearly full. When that is so of all partitions, the consumer sleeps for one
# second, whatever happens meanwhile. The agent empties the buffer within a fraction of that second
# and then waits with an empty buffer while thousands of records are ready at the broker.
#
# Why it matters: the waits come with bursts, so a line looks fine on average and has latencies of
# seconds at half of its throughput. CPU use looks low, which sends the search in the wrong
# direction. A larger stream_buffer_maxsize moves the limit, at the price of memory and of more
# records to deliver again after a crash.
#
# Source: own measurement; Kafka is the mock broker of confluent-kafka. The agent takes batches of 500
# and pauses 10 ms after each, like a write to a database; after every 1500 records it pauses 0.6 s,
# like a database that is slow for a moment. The buffer is 1000 records, so that it gets full. How
# often the sleep is hit varies from run to run; on another occasion the check may need a second run.
#
# Output seen:
#   faust-streaming 0.15.3, mode-streaming 0.7.1, aiokafka 0.14.0, confluent-kafka 2.16.1
#   backlog: 15000 records on 4 partitions
#   stream_buffer_maxsize 1000: 38 batches, waits over 0.3 s: 3, together 1.7 s, longest wait 0.82 s
#   stream_buffer_maxsize 200000: 37 batches, waits over 0.3 s: 0, together 0.0 s, longest wait 0.24 s

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
from confluent_kafka import Producer

logging.disable(logging.CRITICAL)
# The in-process mock broker of confluent-kafka; it lives as long as this producer.
producer = Producer({"bootstrap.servers": "unused:1", "test.mock.num.brokers": 1, "log_level": 3})
broker = next(iter(producer.list_topics(timeout=10).brokers.values()))
ADDRESS = f"{broker.host}:{broker.port}"
PACKAGES = ("faust-streaming", "mode-streaming", "aiokafka", "confluent-kafka")
TOPIC, COUNT, OUTAGE_EVERY = "readings", 15_000, 1_500


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


async def drain(group, buffer):
    """The waits of an agent between two batches, in seconds, while it works off a backlog."""
    app = make_app(group, stream_buffer_maxsize=buffer)
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    waits, count = [], 0

    @app.agent(app.topic(TOPIC, value_serializer="raw"))
    async def write(stream):
        nonlocal count
        ready = None
        async for values in stream.take(500, within=0.2):
            if ready is not None:
                waits.append(loop.time() - ready)
            before, count = count, count + len(values)
            if count >= COUNT:
                done.set()
            outage = not before or before // OUTAGE_EVERY < count // OUTAGE_EVERY
            await asyncio.sleep(0.6 if outage else 0.01)
            ready = loop.time()

    await app.start()
    await asyncio.wait_for(done.wait(), 70)
    await app.stop()
    idle = [wait for wait in waits if wait > 0.3]
    print(
        f"stream_buffer_maxsize {buffer}: {len(waits) + 1} batches, waits over 0.3 s: {len(idle)}, "
        f"together {sum(idle):.1f} s, longest wait {max(waits):.2f} s"
    )
    return max(waits)


async def main():
    print(", ".join(f"{name} {version(name)}" for name in PACKAGES))
    producer.list_topics(TOPIC, timeout=10)
    for number in range(COUNT):
        producer.produce(TOPIC, b"%d" % number, partition=number % 4)
        producer.poll(0)
    producer.flush(30)
    print(f"backlog: {COUNT} records on 4 partitions")
    small = await drain("small-buffer", 1000)
    large = await drain("large-buffer", 200_000)
    if not (small > 0.5 > large):
        sys.exit("CHANGED: the agent does not idle with a backlog")


asyncio.run(main())
PYTHON

code=0
timeout 170 "$work/venv/bin/python" "$work/check.py" || code=$?
if [ "$code" -gt 1 ]; then
    echo "no verdict: the check ended with status $code" >&2
    exit 2
fi
exit "$code"
