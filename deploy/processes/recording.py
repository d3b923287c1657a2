"""The process of `kpstream record`: turns of a recorder until a signal, or once to the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from deploy.settings.recordsettings import RecordSettings
from ingest.backoff import Backoff
from ingest.stopping import stop_on_signals
from pipeline.errors import RecordingUnavailable
from pipeline.recording.folder import RecordingFolder
from pipeline.recording.parquetfile import write_part
from pipeline.recording.recorder import Recorder
from pipeline.recording.source import Source

__all__ = ["record_once", "record_until_stopped"]

log = logging.getLogger(__name__)

_POLL_S = 1.0
_RETRY = Backoff(first_ms=1000, max_ms=30_000)


def record_once(source: Source, path: Path, settings: RecordSettings) -> str:
    """Record what the log has now; returns a line of text.

    Raises:
        RecorderError: The log or the folder cannot be used; the message says why.
    """
    source.ends()  # before a folder is made for nothing
    with _opened(path, settings) as folder:
        recorder = _recorder(source, folder, settings)
        recorder.turn()
        recorder.flush()
        folder.finish()
        return _summary(recorder, folder)


async def record_until_stopped(
    source: Source, path: Path, settings: RecordSettings, announce: Callable[[str], None]
) -> None:
    """Record until SIGINT or SIGTERM; what waits is written before the end.

    Args:
        source: The log.
        path: Folder of the recordings.
        settings: Bounds.
        announce: Receives one line of text at the start and one at the end.

    Raises:
        RecorderError: The folder cannot be used, or what waits cannot be written at the end; the
            message says why. It is still in the log.
    """
    stop, failures = stop_on_signals(), 0
    with _opened(path, settings) as folder:
        recorder = _recorder(source, folder, settings)
        announce(f"recording into {path}, {folder.size_bytes / 1e6:,.0f} MB so far")
        while not stop.is_set():
            try:
                await _turn(recorder, stop)
                failures = 0
            except RecordingUnavailable as exc:
                failures += 1
                if failures == 1:
                    log.warning("%s; trying again, nothing is lost", exc)
            wait_s = _RETRY.delay_ms(failures) / 1000 if failures else _POLL_S
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(stop.wait(), wait_s)
        await asyncio.to_thread(recorder.flush)
        await asyncio.to_thread(folder.finish)
        announce(_summary(recorder, folder))


async def _turn(recorder: Recorder, stop: asyncio.Event) -> None:
    """Let the recorder take a turn in a thread; a signal makes it a short one."""
    turn = asyncio.ensure_future(asyncio.to_thread(recorder.turn))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({turn, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not turn.done():
        recorder.stop()
    await turn


def _opened(path: Path, settings: RecordSettings) -> RecordingFolder:
    return RecordingFolder(path, write_part, max_bytes=settings.max_mb * 1_000_000)


def _recorder(source: Source, folder: RecordingFolder, settings: RecordSettings) -> Recorder:
    return Recorder(
        source,
        folder,
        flush_ms=round(settings.flush_s * 1000),
        buffer_bytes=settings.buffer_mb * 1_000_000,
    )


def _summary(recorder: Recorder, folder: RecordingFolder) -> str:
    counters = recorder.counters
    text = (
        f"recorded {counters.readings:,} readings in {counters.files:,} files; {folder.labels:,} "
        f"labels; {folder.size_bytes / 1e6:,.1f} MB in {folder.path}"
    )
    if counters.missing:
        text += f"; {counters.missing:,} records had left the log before"
    return text
