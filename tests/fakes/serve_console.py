"""Serve the console page without a gateway: python -m tests.fakes.serve_console [PORT]

It shows the live fake fleet until Ctrl-C; with `--empty`, a gateway without any reading.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from pipeline.console.server import create_console
from pipeline.stores.resultsfile import ResultsFile
from tests.fakes.view import (
    ENGINES,
    PEOPLE,
    STALE,
    FakeView,
    activity_points,
    fill,
    rul_points,
)


def now_ms() -> int:
    """Epoch milliseconds."""
    return time.time_ns() // 1_000_000


async def serve(port: int, *, empty: bool) -> None:
    """Serve and advance the fleet until cancelled."""
    with tempfile.TemporaryDirectory() as folder:
        results = ResultsFile(Path(folder) / "results.db")
        view = FakeView(now_ms()) if empty else FakeView.fleet(now_ms())
        if empty:
            view.students = FakeView.fleet(now_ms()).students
        else:
            fill(results, now_ms())
        console = create_console(view, results, port=port)
        await console.start()
        print(console.url, flush=True)
        try:
            while True:
                await asyncio.sleep(1)
                view.advance(now_ms() - view.now_ms)
                for i, (engine, rul) in enumerate(ENGINES.items()):
                    if not empty and engine not in STALE:
                        results.write(list(rul_points(engine, rul, view.now_ms, 1, i))[-1:])
                for i, person in enumerate(PEOPLE):
                    if not empty and person not in STALE:
                        newest = list(activity_points(person, view.now_ms, 1, 27 + i))
                        results.write(newest)
        finally:
            await console.stop()
            results.close()


if __name__ == "__main__":
    ports = [int(word) for word in sys.argv[1:] if word.isdigit()]
    try:
        asyncio.run(serve(ports[0] if ports else 8765, empty="--empty" in sys.argv))
    except KeyboardInterrupt:
        pass
