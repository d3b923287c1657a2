"""After a kill at any step, the log ends with the same Sparkplug readings."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ingest.payloads import decode_payload, event_times
from ingest.sparkplug.decoder import Sparkplug
from ingest.sparkplug.names import SparkplugMapping
from ingest.sparkplug.store import SparkplugStore
from ingest.topics import Address
from tests.fakes.sparkplugnode import EdgeNode, Message
from tests.fuzz.limits import MEMORY, examples

T0_MS = 1_750_000_000_000
MAPPING = SparkplugMapping.model_validate(
    {"stream": [{"name": "pair", "metrics": {"a": "A", "b": "B"}}]}
)
Key = tuple[str, str, int]


@dataclass
class Pipeline:
    """A broker with a queue, a log, and a bridge that can be killed at each of its steps."""

    messages: list[Message]
    path: Path
    acked: int = 0
    delivered: int = 0
    log: list[tuple[Key, dict[str, float]]] = field(default_factory=list)
    dead_letters: list[tuple[str, str, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sparkplug = self._process()

    def _process(self) -> Sparkplug:
        return Sparkplug(MAPPING, SparkplugStore(self.path))

    def run_load(self, size: int, reconnect_at: int, dies_at: int, acks: int) -> None:
        """Take a load of messages; `dies_at` 1 to 4 kills the bridge after that step."""
        taken: list[int] = []
        at = self.acked
        while len(taken) < size and at < len(self.messages):
            if len(taken) == reconnect_at and taken[-1:] != [self.acked - 1]:
                at, reconnect_at = self.acked, -1  # all that is not acknowledged comes again
            taken.append(at)
            at += 1
        envelopes: list[tuple[Key, dict[str, float]]] = []
        dead_letters = []
        for number in taken:
            topic, payload = self.messages[number]
            is_dup = number < self.delivered
            decoded = self.sparkplug.decode(topic, payload, T0_MS, 1, is_dup=is_dup)
            self.delivered = max(self.delivered, number + 1)
            envelopes += _readings(decoded.messages)
            if decoded.refused is not None:
                dead_letters.append((decoded.refused.reason.value, topic, payload))
        checkpoint = self.sparkplug.checkpoint()
        if dies_at == 1:
            return self.die()
        if dies_at == 2:  # any part of an append may be there
            self.log += envelopes[: len(envelopes) // 2]
            return self.die()
        self.log += envelopes
        self.dead_letters += dead_letters
        if dies_at == 3:
            return self.die()
        if checkpoint is not None:
            self.sparkplug._store.write(checkpoint)
        end = max([self.acked, *(number + 1 for number in taken)])
        if dies_at == 4:  # and any part of the acknowledgements
            self.acked = min(end, self.acked + acks)
            return self.die()
        self.acked = end
        return None

    def finish(self) -> None:
        """Log what still waits for the rest of its moment."""
        self.log += _readings(self.sparkplug.due(None))

    def die(self) -> None:
        self.sparkplug.close()
        self.sparkplug = self._process()


def _readings(messages: Sequence[tuple[Address, bytes]]) -> list[tuple[Key, dict[str, float]]]:
    found = []
    for address, body in messages:
        document = decode_payload(body)
        for n, ts_ms in enumerate(event_times(document).tolist()):
            values = {name: column[n] for name, column in document["values"].items()}
            found.append(((address.device, address.stream, ts_ms), values))
    return found


def script(steps: list[tuple[int, int, int]]) -> list[Message]:
    """Messages of two nodes: data by exception, deaths, new births, and lost messages."""
    nodes = [
        EdgeNode("g", name, {"": {"A": 0.0, "B": 0.0}, "press": {"A": 0.0, "B": 0.0}})
        for name in ("n1", "n2")
    ]
    found = [message for node in nodes for message in node.births(T0_MS)]
    for number, (which, kind, value) in enumerate(steps):
        node, now = nodes[which % 2], T0_MS + 10 * (number + 1)
        device = "press" if which // 2 else ""
        if kind == 0:
            found.append(node.ndeath(now))
            node.bdseq = (node.bdseq + 1) % 256
        elif kind == 1:
            found += node.births(now)
        elif kind == 2:
            node.data(device, now, {"A": -1.0})  # lost
        elif kind == 3:
            found.append(node.data(device, now, {"A": None}))
        elif kind == 4:
            found.append(node.data(device, now - 500, {"B": value / 2}, historical=True))
        elif kind == 5:
            found.append(node.data(device, now, {"B": float(value), "A": -float(value)}))
        else:
            found.append(node.data(device, now, {"AB"[kind % 2]: float(value)}))
    return found


step = st.tuples(st.integers(0, 3), st.integers(0, 13), st.integers(-1000, 1000))
load = st.tuples(st.integers(1, 12), st.integers(-6, 11), st.integers(0, 8), st.integers(0, 12))


@examples(60)
@given(st.lists(step, max_size=60), st.lists(load, min_size=1, max_size=40))
def test_any_kill_and_any_redelivery_give_the_same_readings(
    steps: list[tuple[int, int, int]], loads: list[tuple[int, int, int, int]]
) -> None:
    messages = script(steps)
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        calm = Pipeline(messages, Path(folder) / "calm.db")
        calm.run_load(10**6, -1, 0, 0)
        calm.finish()
        calm.sparkplug.close()
        pipeline = Pipeline(messages, Path(folder) / "line.db")
        for size, reconnect_at, dies_at, acks in loads:
            pipeline.run_load(size, reconnect_at, dies_at, acks)
        while pipeline.acked < len(messages):
            pipeline.run_load(25, -1, 0, 0)
        pipeline.finish()
        status = pipeline.sparkplug.status()
        pipeline.sparkplug.close()
    assert len(calm.log) == len(dict(calm.log))
    assert dict(pipeline.log) == dict(calm.log)
    # A reading that is there twice says the same both times.
    assert all(dict(calm.log)[key] == values for key, values in pipeline.log)
    assert set(pipeline.dead_letters) == set(calm.dead_letters)
    assert status["nodes_online"] == calm.sparkplug.status()["nodes_online"]
