"""Coverage-guided fuzzing of the readers of untrusted bytes; run manually, needs atheris.

`python -m tests.fuzz.atheris_wire TARGET [libFuzzer options]`, for example
`python -m tests.fuzz.atheris_wire sparkplug -max_total_time=600`. Targets: `json`, `bundle`,
`record`, `sparkplug`, `packets`, `manifest`, `onnx` (tests/fuzz/targets.py). atheris is not one
of our dependencies; its wheels are for Linux and for some versions of Python only.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Fuzz the target of the command line until it fails or is stopped."""
    import atheris

    with atheris.instrument_imports(include=["ingest", "models"]):
        from tests.fuzz.targets import TARGETS

    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m tests.fuzz.atheris_wire {{{','.join(TARGETS)}}} [options]")
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
