"""A bridge as a separate process, to be killed: appends to a text file, durably and slowly.

`python -m tests.ingest.bridge_process PORT FILE`
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ingest.blocks import decode_messages
from ingest.bridge import Bridge
from ingest.logwriter import LogRecord
from ingest.messages import Batch
from ingest.settings import IngestSettings


class FileLog:
    partitions = 4

    def __init__(self, path: Path) -> None:
        if path.exists():  # a kill can end a write at the border of a page
            os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
        self._file = path.open("ab")

    async def append(self, records: Sequence[LogRecord]) -> None:
        for record in records:
            for item in decode_messages(record.value):
                assert isinstance(item, Batch)
                self._file.write(f"{item.device} {item.values['n'][0]:.0f}\n".encode())
        self._file.flush()
        os.fsync(self._file.fileno())
        await asyncio.sleep(0.02)  # durable, not yet acknowledged: the worst moment to be killed


if __name__ == "__main__":
    settings = IngestSettings(mqtt_port=int(sys.argv[1]), receive_maximum=50)
    asyncio.run(Bridge(settings, FileLog(Path(sys.argv[2]))).run())
