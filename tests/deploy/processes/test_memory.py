"""Freed memory of a long-lived process goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, sys, time
from pathlib import Path
from deploy.processes.memory import return_memory, set_up_allocator

def resident_kb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1])

async def main():
    before = resident_kb()
    # Blocks above what Python pools and below what is mapped; every hundredth one stays.
    blocks = [bytes(4096) for _ in range(20_000)]
    full = resident_kb()
    kept = blocks[::100]
    blocks.clear()
    if sys.argv[1] == "returned":
        returning = asyncio.create_task(return_memory(0.05))
        deadline = time.monotonic() + 30
        while resident_kb() - before > (full - before) / 5 and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        returning.cancel()
    print(full - before, resident_kb() - before, len(kept))

set_up_allocator()
asyncio.run(main())
"""


def grown_kb(how: str) -> tuple[int, int]:
    """Growth of a process at its peak, and after it has freed nearly all of it."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True, timeout=60
    )
    peak, left, _ = map(int, done.stdout.split())
    return peak, left


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc")
def test_freed_memory_between_blocks_in_use_is_returned() -> None:
    peak, left = grown_kb("returned")
    assert peak > 70_000
    assert left < 0.2 * peak
    peak, left = grown_kb("kept")
    assert left > 0.8 * peak


THREADS = """
import asyncio, ctypes, os, threading
from deploy.processes.lifecycle import run_process

def heaps():
    # The report of glibc's malloc has one element per heap, before that of all of them.
    libc = ctypes.CDLL(None)
    libc.fdopen.restype, libc.fdopen.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_char_p]
    libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.fclose.argtypes = [ctypes.c_void_p]
    reading, writing = os.pipe()
    file = libc.fdopen(writing, b"w")
    libc.malloc_info(0, file)
    libc.fclose(file)
    with open(reading) as report:
        return report.read().count("<heap nr=")

class Process:
    def __init__(self):
        self.kept = []
        threads = [threading.Thread(target=self.allocate) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    def allocate(self):
        self.kept.append(bytearray(100_000))
    async def start(self):
        return f"{heaps()} heap"
    async def wait(self):
        return
    async def stop(self):
        return "stopped"

asyncio.run(run_process("gateway", Process, lambda text: print(text, flush=True)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc")
def test_threads_that_start_while_a_process_is_built_share_its_one_heap() -> None:
    done = subprocess.run(
        [sys.executable, "-c", THREADS], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split("\n")[0] == "1 heap"
