"""Payloads in payloads: every form that nodes send is read, and every excess is refused."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import RefusalReason, RefusedMessage
from ingest.sparkplug.compression import decompress
from ingest.sparkplug.decoder import Sparkplug
from ingest.sparkplug.store import SparkplugStore
from ingest.sparkplug.wire import MAX_SPARKPLUG_BYTES, Metric, decode_sparkplug, encode_sparkplug
from tests.fakes.sparkplugnode import Message, compressed
from tests.ingest.sparkplug.test_decoder import T0_MS, mapping, node, take

PAYLOAD = encode_sparkplug(T0_MS, [Metric("a", ts_ms=T0_MS, field="double_value", value=1.5)], 7)
RAW = zlib.compressobj(wbits=-15)
DEFLATED = RAW.compress(PAYLOAD) + RAW.flush()
FORMS = [
    (zlib.compress(PAYLOAD), "DEFLATE"),
    (zlib.compress(PAYLOAD), None),
    (DEFLATED, "deflate"),
    (DEFLATED, None),
    (gzip.compress(PAYLOAD, mtime=0), "GZIP"),
    (gzip.compress(PAYLOAD, mtime=0), " gzip "),
    (gzip.compress(PAYLOAD, mtime=0), None),
]


@pytest.fixture
def sparkplug(tmp_path: Path) -> Iterable[Sparkplug]:
    found = Sparkplug(mapping(), SparkplugStore(tmp_path / "sparkplug.db"))
    yield found
    found.close()


@pytest.mark.parametrize(("body", "algorithm"), FORMS)
def test_every_form_is_the_payload_itself(body: bytes, algorithm: str | None) -> None:
    assert decompress(body, algorithm, 1000) == PAYLOAD
    assert decode_sparkplug(compressed(body, algorithm)) == decode_sparkplug(PAYLOAD)


def test_time_and_sequence_number_are_inside_or_outside() -> None:
    inner = encode_sparkplug(0, [Metric("a", field="double_value", value=1.5)])
    body = zlib.compress(inner[2:])  # without its timestamp
    found = decode_sparkplug(compressed(body, "DEFLATE", ts_ms=T0_MS, seq=9))
    assert (found.ts_ms, found.seq) == (T0_MS, 9)
    both = decode_sparkplug(compressed(zlib.compress(PAYLOAD), "DEFLATE", ts_ms=5, seq=9))
    assert (both.ts_ms, both.seq) == (T0_MS, 7)


@pytest.mark.parametrize("algorithm", ["DEFLATE", "GZIP"])
def test_a_node_that_compresses_everything_is_read_like_any(
    sparkplug: Sparkplug, algorithm: str
) -> None:
    def sent(message: Message) -> Message:
        squeeze = gzip.compress if algorithm == "GZIP" else zlib.compress
        return message[0], compressed(squeeze(message[1]), algorithm)

    line = node()
    line.bdseq = 3
    take(sparkplug, *map(sent, line.births(T0_MS)))
    found = take(sparkplug, sent(line.data("press", T0_MS + 1, {"Sensors/A": 5.0})))
    assert [r[3] for r in found] == [{"a": 5.0, "b": 2.0}]
    late = sent(line.ndeath(T0_MS))
    line.bdseq = 4
    take(sparkplug, *map(sent, line.births(T0_MS + 2)), late)
    assert sparkplug.counters.stale_deaths_total == 1, "bdSeq is inside"
    take(sparkplug, sent(line.ndeath(T0_MS)))
    assert sparkplug.status()["nodes_online"] == 0
    assert sparkplug.counters.seq_gaps_total == 0


@pytest.mark.parametrize(
    ("body", "algorithm", "reason", "shown"),
    [
        (b"", "DEFLATE", "empty", "no body"),
        (zlib.compress(PAYLOAD), "LZ4", "not_sparkplug", "'LZ4'; DEFLATE and GZIP are known"),
        (zlib.compress(PAYLOAD), "GZIP", "not_sparkplug", "is not GZIP"),
        (b"\xff" * 50, "DEFLATE", "not_sparkplug", "is not DEFLATE"),
        (zlib.compress(PAYLOAD)[:-6], "DEFLATE", "not_sparkplug", "is cut short"),
        (zlib.compress(PAYLOAD) + b"x", "DEFLATE", "not_sparkplug", "behind its end"),
        (zlib.compress(b"\0" * 5_000_000), "DEFLATE", "too_large", "200 times as much"),
        (
            zlib.compress(bytes(range(256)) * 8000),
            None,
            "too_large",
            f"{MAX_SPARKPLUG_BYTES} bytes",
        ),
        (
            gzip.compress(b"\0" * 20_000_000, mtime=0),
            "GZIP",
            "too_large",
            f"{MAX_SPARKPLUG_BYTES} bytes",
        ),
        (zlib.compress(b'{"ts": 1}'), None, "not_sparkplug", "not a Sparkplug B payload"),
        (
            zlib.compress(compressed(zlib.compress(PAYLOAD), "DEFLATE")),
            "DEFLATE",
            "not_sparkplug",
            "is not known",
        ),
    ],
)
def test_excess_and_damage_are_refused_with_their_reason(
    body: bytes, algorithm: str | None, reason: str, shown: str
) -> None:
    with pytest.raises(RefusedMessage) as caught:
        decode_sparkplug(compressed(body, algorithm))
    assert caught.value.reason is RefusalReason(reason)
    assert shown in caught.value.detail


def test_a_body_of_an_unknown_kind_does_not_vanish() -> None:
    with pytest.raises(RefusedMessage, match="uuid 'OTHER' instead of metrics is not known"):
        decode_sparkplug(compressed(b"xyz", None, uuid="OTHER"))


@given(body=st.binary(max_size=300), algorithm=st.sampled_from([None, "DEFLATE", "GZIP", "x"]))
def test_any_bytes_are_refused_or_bounded(body: bytes, algorithm: str | None) -> None:
    try:
        assert len(decompress(body, algorithm, 500)) <= 500
    except RefusedMessage:
        pass
