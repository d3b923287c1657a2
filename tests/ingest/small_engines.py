"""Text of small made-up engines in the form of C-MAPSS."""

from __future__ import annotations


def engine_text(lengths: list[int]) -> str:
    lines = []
    for engine, length in enumerate(lengths, 1):
        for cycle in range(1, length + 1):
            numbers = [engine * 1000 + cycle + sensor / 100 for sensor in range(24)]
            lines.append(f"{engine} {cycle} " + " ".join(f"{n:.2f}" for n in numbers) + "  ")
    return "\n".join(lines) + "\n"
