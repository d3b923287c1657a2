#!/usr/bin/env bash
#
# aiokafka: compression_type="gzip" always compresses at level 9, and no setting changes it
#
# Expected: a producer that offers gzip uses zlib's default level (6) or a fast one, or has a setting
# for it: compression runs inside the event loop for every batch.
#
# What happens: AIOKafkaProducer compresses every batch at level 9, the slowest one. The function that
# does it has a parameter for the level, but the producer neither passes it nor takes a setting. On
# batches of sensor readings level 9 costs several times the CPU time of level 1 and saves little or
# nothing over level 6.
#
# Why it matters: gzip is the only codec that aiokafka brings along; lz4, snappy and zstd need an extra.
# A gateway that chooses it to save bandwidth spends most of its CPU time on compression, and the
# event loop stands still meanwhile. Install aiokafka[zstd] or aiokafka[lz4].
#
# Source: own measurement; the broker is the mock broker of confluent-kafka. Times depend on the machine
# and do not decide the outcome.
#
# Output seen:
#   aiokafka 0.14.0, confluent-kafka 2.16.1
#   sent and received 100 records, all equal: True
#   batches compressed: 1, levels used: [9]
#   settings of the producer with 'level' in their names: []
#   the same 53089 bytes at level 1: 20827 bytes, 1.5 ms
#   the same 53089 bytes at level 6: 16453 bytes, 8.9 ms
#   the same 53089 bytes at level 9: 16309 bytes, 23.7 ms

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
import gzip
import inspect
import json
import random
import sys
import time
from importlib.metadata import version

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from confluent_kafka import Producer

random.seed(1)
VALUES = [
    json.dumps(
        {
            "device": f"pump-{number % 7}",
            "time_ms": 1_700_000_000_000 + 100 * number,
            "values": [round(random.gauss(20, 3), 3) for _ in range(60)],
        }
    ).encode()
    for number in range(100)
]

mock = Producer({"bootstrap.servers": "unused:1", "test.mock.num.brokers": 1, "log_level": 3})
broker = next(iter(mock.list_topics("readings", timeout=10).brokers.values()))
address = f"{broker.host}:{broker.port}"

levels = []
original = gzip.GzipFile.__init__


def noticing(self, *args, **kwargs):
    """Note with which level a file for writing is opened; change nothing."""
    bound = inspect.signature(original).bind(self, *args, **kwargs)
    bound.apply_defaults()
    if "w" in (bound.arguments["mode"] or ""):
        levels.append(bound.arguments["compresslevel"])
    original(self, *args, **kwargs)


async def send():
    producer = AIOKafkaProducer(
        bootstrap_servers=address, compression_type="gzip", linger_ms=50, max_batch_size=131_072
    )
    await producer.start()
    for future in [await producer.send("readings", value, partition=0) for value in VALUES]:
        await future
    await producer.stop()
    consumer = AIOKafkaConsumer("readings", bootstrap_servers=address, auto_offset_reset="earliest")
    await consumer.start()
    received = [(await consumer.getone()).value for _ in VALUES]
    await consumer.stop()
    return received


gzip.GzipFile.__init__ = noticing
received = asyncio.run(send())
gzip.GzipFile.__init__ = original

print(f"aiokafka {version('aiokafka')}, confluent-kafka {version('confluent-kafka')}")
print(f"sent and received {len(received)} records, all equal: {received == VALUES}")
print(f"batches compressed: {len(levels)}, levels used: {sorted(set(levels))}")
settings = [name for name in inspect.signature(AIOKafkaProducer).parameters if "level" in name]
print(f"settings of the producer with 'level' in their names: {settings}")
body = b"".join(VALUES)
for level in (1, 6, 9):
    begin = time.perf_counter()
    for _ in range(10):
        size = len(gzip.compress(body, level))
    took = (time.perf_counter() - begin) / 10
    print(f"the same {len(body)} bytes at level {level}: {size} bytes, {1000 * took:.1f} ms")
if not (received == VALUES and set(levels) == {9} and not settings):
    sys.exit("CHANGED: another level is used, or there is a setting for it")
PYTHON

code=0
timeout 60 "$work/venv/bin/python" "$work/check.py" || code=$?
if [ "$code" -gt 1 ]; then
    echo "no verdict: the check ended with status $code" >&2
    exit 2
fi
exit "$code"
