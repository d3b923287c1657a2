"""Recorded data sets: C-MAPSS turbofan engines, UCI-HAR inertial signals, and how files are read.

Replay and training read exactly the same numbers through these functions: text is parsed as
float64 and cast to float32 once, as the pipeline does with JSON. Needs numpy only.

In: a folder, an archive as downloaded (also an archive inside an archive or folder), or for UCI-HAR
a pair of `.npz` files. Out: engine histories, windows, recordings. Promises:

1. `files` opens every packing. Two files of one name are refused, and what is damaged, encrypted or
   packed in a way that Python cannot read is a `RecordingError`.
2. `tables` checks every number: finite, within float32, whole where it counts something.
3. Nothing is cut, skipped or guessed. The message names the place and what to do.

    from ingest.recordings import engine_recordings, read_cmapss
    engines = read_cmapss("cmapss.zip", "FD001", "test")      # histories, from the first cycle on
    devices = engine_recordings(engines)                      # what `kpstream replay` publishes

`cmapss` and `har` read the two data sets, `recording` is what both become. The readers of
`training.datasets` use `files` and `tables` too.
"""

from ingest.errors import RecordingError
from ingest.recordings.cmapss import (
    CMAPSS_SENSORS,
    CMAPSS_SETTINGS,
    ENGINE_CHANNELS,
    EngineHistory,
    engine_recordings,
    read_cmapss,
)
from ingest.recordings.har import (
    HAR_CHANNELS,
    HAR_LABELS,
    HarWindows,
    read_uci_har,
    recordings_of,
)
from ingest.recordings.recording import Recording

__all__ = [
    "CMAPSS_SENSORS",
    "CMAPSS_SETTINGS",
    "ENGINE_CHANNELS",
    "HAR_CHANNELS",
    "HAR_LABELS",
    "EngineHistory",
    "HarWindows",
    "Recording",
    "RecordingError",
    "engine_recordings",
    "read_cmapss",
    "read_uci_har",
    "recordings_of",
]
