"""Drift: whether what a stream reads now is still what its student has learned.

In: the windows of each batch and their scores. Out: points of the measurement `drift`. Promise: it
changes no score, costs a few microseconds a window, and its state is bounded; after a restart it
begins to count again.

Files: `counts` counts the newest windows of a stream or a device (pure), `judge` compares the
counts with the manifest (pure), `watch` does both for all streams of a process, `reasons` reads
from stored points which streams have drifted.
"""

__all__: list[str] = []
