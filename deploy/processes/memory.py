"""Keep the resident memory of a long-lived process flat, although its buffers come and go.

glibc gives freed memory back late: it keeps a heap for each thread, and it raises the size from
which a buffer is mapped on its own to the largest one freed so far, so that large buffers come to
lie between small ones. In a gateway under a steady load, whose live memory was flat, the heap held
13 MB of freed memory after 25 minutes, and more with every minute. Hence one heap for all threads,
large buffers outside of it, and free pages given back every ten seconds. A mapped buffer costs a
page fault for each 4 KiB, about 3 us: in a flood of windows a twelfth of all CPU time, had every
buffer above 256 KiB been mapped.

Pages of libraries that only the start has read are unmapped, too: of 50 MB, a gateway at work reads
some 10 MB. They stay in the system's cache as long as there is room, and are mapped again when they
are read.

Another C library or system has none of these settings; everything here then does nothing.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["freeze_startup_objects", "return_memory", "set_up_allocator"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of malloc.h
_MADV_DONTNEED = 4  # of sys/mman.h, on Linux
_UNCHANGED = re.compile(  # of proc(5): a private mapping of a file, not writable, all pages clean
    r"^([0-9a-f]+)-([0-9a-f]+) r-[x-]p \S+ \S+ [1-9]\d* +/.*\n(?:\w+:.*\n)*?Anonymous: +0 kB$",
    re.MULTILINE,
)
_LARGE_BYTES = 1024 * 1024
_EVERY_S = 10.0


def set_up_allocator() -> None:
    """Use one heap, and map large buffers; call it before threads start."""
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES)


def freeze_startup_objects() -> None:
    """Exclude objects made at the start from collections; return memory that only it needed."""
    gc.unfreeze()  # imports leave half a megabyte of garbage, see deploy.commands.importing
    gc.collect()
    gc.freeze()
    _trim()
    _unmap_read_pages()


async def return_memory(every_s: float = _EVERY_S) -> None:
    """Give free memory back to the system from time to time, until cancelled; it takes 2 ms."""
    while True:
        await asyncio.sleep(every_s)
        await asyncio.to_thread(_trim)


def _trim() -> None:
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _unmap_read_pages() -> None:
    """Unmap the resident pages of files that are mapped read-only and that nobody has changed.

    A page with changes, such as the tables that the loader fills in, would lose them, so a mapping
    with one is left alone.
    """
    with suppress(OSError, AttributeError, ValueError):
        madvise = ctypes.CDLL(None).madvise
        madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        for start, end in _unchanged_mappings(Path("/proc/self/smaps").read_text("utf-8")):
            madvise(start, end - start, _MADV_DONTNEED)


def _unchanged_mappings(smaps: str) -> Iterator[tuple[int, int]]:
    r"""First address and end of each mapping whose pages are those of its file.

    >>> code = "10-20 r-xp 00 08:01 7 /lib/a.so\nRss: 8 kB\nAnonymous: 0 kB\n"
    >>> data = "20-30 r--p 00 08:01 7 /lib/a.so\nRss: 8 kB\nAnonymous: 4 kB\n"
    >>> list(_unchanged_mappings(code + data + code.replace("r-x", "rw-")))
    [(16, 32)]
    """
    for found in _UNCHANGED.finditer(smaps):
        yield int(found[1], 16), int(found[2], 16)
