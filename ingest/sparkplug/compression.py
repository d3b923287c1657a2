"""Compressed payloads: a payload whose body is another one, within bounds of size and ratio. Pure.

A node that compresses (Tahu's libraries for Java and JavaScript, among others) sends a payload with
the uuid `SPBV1.0_COMPRESSED`, the compressed payload as its body, and a metric `algorithm` (DEFLATE
or GZIP). Time, sequence number and all metrics, also `bdSeq`, are usually inside only.
"""

from __future__ import annotations

import zlib

from ingest.errors import RefusalReason, RefusedMessage

__all__ = ["ALGORITHM_METRIC", "COMPRESSED_UUID", "decompress"]

COMPRESSED_UUID = "SPBV1.0_COMPRESSED"
ALGORITHM_METRIC = "algorithm"

_MAX_RATIO = 200
"""Names of metrics compress some ten to thirty times; zeros a thousand times."""
_FREE_BYTES = 64 * 1024
"""Bodies that become no larger than this may have any ratio."""
_GZIP_MAGIC = b"\x1f\x8b"
_ZLIB, _RAW, _GZIP = zlib.MAX_WBITS, -zlib.MAX_WBITS, 16 + zlib.MAX_WBITS


def decompress(body: bytes, algorithm: str | None, max_bytes: int) -> bytes:
    """Return the payload in the body of a compressed one.

    DEFLATE comes with the header of zlib (Java, JavaScript) or without (.NET). Without the name of
    an algorithm, the first bytes decide.

    >>> decompress(zlib.compress(b"payload"), "DEFLATE", 1000)
    b'payload'

    Args:
        body: The compressed payload.
        algorithm: `DEFLATE` or `GZIP` in any case; None or empty: not named.
        max_bytes: Limit of the payload.

    Raises:
        RefusedMessage: `empty` without a body, `too_large` beyond the limit or the largest ratio,
            `not_sparkplug` for another algorithm, or a body that is damaged or cut.
    """
    if not body:
        raise RefusedMessage(RefusalReason.empty, "the compressed payload has no body")
    name = (algorithm or "").strip().upper()
    if name not in ("", "DEFLATE", "GZIP"):
        detail = f"compressed with {name[:40]!r}; DEFLATE and GZIP are known"
        raise RefusedMessage(RefusalReason.not_sparkplug, detail)
    is_gzip = name == "GZIP" or (not name and body.startswith(_GZIP_MAGIC))
    largest = min(max_bytes, max(_FREE_BYTES, _MAX_RATIO * len(body)))
    fault: zlib.error | None = None
    for wbits in (_GZIP,) if is_gzip else (_ZLIB, _RAW):
        stream = zlib.decompressobj(wbits)
        try:
            payload = stream.decompress(body, largest + 1)
        except zlib.error as exc:
            fault = fault or exc
            continue
        if len(payload) > largest:
            limit = f"{max_bytes} bytes" if largest == max_bytes else f"{_MAX_RATIO} times as much"
            detail = f"{len(body)} compressed bytes become more than {limit}: send fewer metrics"
            raise RefusedMessage(RefusalReason.too_large, detail)
        if not stream.eof or stream.unused_data:
            flaw = "is cut short" if not stream.eof else "has more bytes behind its end"
            detail = f"the compressed body of {len(body)} bytes {flaw}"
            raise RefusedMessage(RefusalReason.not_sparkplug, detail)
        return payload
    detail = f"the body is not {name or 'DEFLATE or GZIP'} ({fault}); it begins with {body[:20]!r}"
    raise RefusedMessage(RefusalReason.not_sparkplug, detail)
