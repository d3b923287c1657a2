"""Explanations and raw readings for the page: bounded, kept for a moment, made in a quiet thread.

Knows nothing of HTTP but its status codes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from pipeline.errors import (
    ExplainError,
    LineFull,
    LogError,
    NoScore,
    NoStudent,
    ReadingsGone,
    SinkError,
)
from pipeline.explain.explainer import Explainer, explained_json
from pipeline.explain.scores import DeviceStream
from pipeline.quiet import QuietThread

__all__ = ["Explanations", "Reply"]

_KEPT_MS = 3_000  # so that several open pages cost as much as one
_MOST_KEPT = 64
_SEARCHED_BYTES = 64_000_000
_READINGS, _MOST_READINGS = 240, 2000
_READINGS_BYTES = 16_000_000
_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (NoScore, 404),
    (NoStudent, 404),
    (ReadingsGone, 410),
    (ExplainError, 500),
    (LogError, 503),
    (SinkError, 503),
)


class Reply(NamedTuple):
    """An answer: status, JSON, and the time at which it was asked for."""

    status: int
    body: bytes
    at_ms: int


_Work = Callable[[Explainer], dict[str, Any]]


class Explanations:
    """Answers of an explainer, at most a quarter of a core's time; call from one event loop.

    Args:
        explainer: The explainer; None where there is no log to read from.
        now_ms: The clock, epoch milliseconds: the time of the answers.
        steady_ms: Monotonic milliseconds: how long an answer is kept.
    """

    def __init__(
        self,
        explainer: Explainer | None,
        now_ms: Callable[[], int],
        steady_ms: Callable[[], int],
    ) -> None:
        self._explainer = explainer
        self._now_ms = now_ms
        self._steady_ms = steady_ms
        self._quiet = QuietThread("explain", waiting=6, share=0.25)
        self._kept: dict[object, tuple[int, asyncio.Future[tuple[int, bytes]]]] = {}

    async def explanation(self, device: DeviceStream, at_ms: int | None) -> Reply:
        """Why a score is what it is: the newest one, or the one that was newest at `at_ms`."""
        return await self._reply(
            (device, "explanation", at_ms),
            lambda explainer: explained_json(explainer.explain(device, at_ms, _SEARCHED_BYTES)),
        )

    async def readings(self, device: DeviceStream, last: int | None) -> Reply:
        """The newest raw readings of a device."""
        count = min(last or _READINGS, _MOST_READINGS)
        return await self._reply(
            (device, "readings", count),
            lambda explainer: explainer.readings(device, count, _READINGS_BYTES),
        )

    def close(self) -> None:
        """Let the work in progress end; blocks for as long."""
        self._quiet.close()

    async def _reply(self, key: object, work: _Work) -> Reply:
        """The answer kept for `key`, or a new one; 429 when too much is asked at once."""
        explainer, now = self._explainer, self._now_ms()
        if explainer is None:
            return Reply(404, _error("this process has no log to read from"), now)
        kept = self._kept.get(key)
        steady = self._steady_ms()
        if kept is None or steady - kept[0] >= _KEPT_MS:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            try:
                future = self._quiet.submit(lambda: _answered(explainer, work))
            except LineFull as exc:
                return Reply(429, _error(str(exc)), now)
            kept = self._kept[key] = (steady, asyncio.wrap_future(future))
        return Reply(*await asyncio.shield(kept[1]), now)


def _answered(explainer: Explainer, work: _Work) -> tuple[int, bytes]:
    """Status and body; an error is an answer that is kept as well."""
    try:
        return 200, orjson.dumps(work(explainer))
    except (ExplainError, LogError, SinkError) as exc:
        return next(code for kind, code in _STATUS if isinstance(exc, kind)), _error(str(exc))


def _error(text: str) -> bytes:
    return orjson.dumps({"error": text})
