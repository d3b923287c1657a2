"""A small folder of recordings: engines that fail, and a person who climbs stairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ingest.labels import Label, LabelKind, LabelRecord
from ingest.messages import Batch
from ingest.topics import Address
from pipeline.recording.folder import RecordingFolder
from pipeline.recording.parquetfile import write_part
from pipeline.recording.rows import Rows

T0_MS = 1_764_374_400_000  # 2025-11-29T00:00:00Z
DAY_MS = 86_400_000


def batch(
    stream: str, device: str, ts_ms: list[int], recv_ms: int, /, **columns: list[float]
) -> Batch:
    """One message of readings of the site `plant-7`."""
    return Batch("plant-7", device, stream, recv_ms, np.array(ts_ms, dtype=np.int64), columns)


def label(
    device: str,
    label_id: str,
    kind: LabelKind,
    from_ms: int,
    to_ms: int | None = None,
    **more: Any,
) -> LabelRecord:
    """A label of a device of the stream `engine`, received a minute after its end."""
    stream = more.pop("stream", "engine")
    site = more.pop("site", "plant-7")
    recv_ms = more.pop("recv_ms", (to_ms or from_ms) + 60_000)
    text = Label(label_id, kind, from_ms, from_ms if to_ms is None else to_ms, **more)
    return LabelRecord(Address(site, device, stream), recv_ms, text)


def sample_recordings(path: Path, *, engines: int = 3, days: int = 2) -> Path:
    """Write a folder with two streams over some days, and labels of all kinds.

    The engines send a reading a minute for ten hours of each day; `T24` rises until the engine
    fails. The person sends 50 readings a second for ten seconds, the last five of them climbing.
    """
    folder = RecordingFolder(path, write_part, max_bytes=10**9)
    labels = []
    for day in range(days):
        rows = Rows()
        start_ms = T0_MS + day * DAY_MS
        for number in range(engines):
            ts_ms = [start_ms + 60_000 * minute for minute in range(600)]
            wear = np.linspace(0, 1 + number / 10, len(ts_ms))
            values = {"T24": (640 + 5 * wear).tolist(), "P30": (550 - 3 * wear).tolist()}
            rows.add(batch("engine", f"engine-{number}", ts_ms, ts_ms[-1] + 500, **values))
            end_ms = ts_ms[-1]
            failed = f"failed-{day}"
            labels.append(label(f"engine-{number}", failed, "failed", end_ms, by="Ada"))
            labels.append(label(f"engine-{number}", f"new-{day}", "replaced", end_ms + 60_000))
        ts_ms = [start_ms + 20 * step for step in range(500)]
        signal = np.sin(np.arange(500) / 5) + (np.arange(500) >= 250)
        rows.add(batch("imu", "ada", ts_ms, ts_ms[-1], acc_x=signal.tolist()))
        span = {"label": "climbing", "stream": "imu"}
        labels.append(label("ada", f"up-{day}", "span", ts_ms[250], ts_ms[-1], **span))
        span = {"label": "walking", "stream": "imu"}
        labels.append(label("ada", f"flat-{day}", "span", ts_ms[0], ts_ms[250], **span))
        labels.append(label("ada", f"bad-{day}", "span", ts_ms[0], ts_ms[9], revoked=True, **span))
        offsets = {"readings/0": 100 * (day + 1), "labels/0": 10 * (day + 1)}
        folder.commit(rows.parts(), labels, "sample", offsets)
    folder.close()
    return path
