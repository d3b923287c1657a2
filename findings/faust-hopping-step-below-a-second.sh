#!/usr/bin/env bash
#
# Faust: hopping windows cut size and step to whole seconds; with a step of 1.28 s windows overlap wrongly
#
# Expected: table.hopping(size, step) takes seconds as floats, so a size of 2.56 s with a step of
# 1.28 s (a common choice for vibration and activity data) puts every moment into exactly two windows
# whose starts are multiples of 1.28 s.
#
# What happens: the step is cut to 1 s where the windows of a moment are made. There are three windows
# instead of two, they start at whole seconds, the first of them ends before the moment that it is
# made for, and nothing is reported. A step of 0.5 s raises ValueError, but only when the first record
# arrives. The window class can be made with either value.
#
# Why it matters: every aggregate is computed over other records than the model or the report expects,
# and no error says so. Check fractional windows by their ranges, or cut windows in your own code.
#
# Source: own measurement; no broker needed.
#
# Output seen:
#   faust-streaming 0.15.3, class from faust._cython.windows
#   size 2.0, step 1.0, at 1000.5: [(999.0, 1000.9), (1000.0, 1001.9)]
#   size 2.56, step 1.28, at 1000.5: [(998.0, 1000.46), (999.0, 1001.46), (1000.0, 1002.46)]
#       starts that are multiples of the step: [998.4, 999.68]
#   size 1.0, step 0.5, at 1000.5: ValueError('range() arg 3 must not be zero')

set -euo pipefail

if ! command -v python3 >/dev/null; then
    echo "no verdict: the program python3 is missing" >&2
    exit 2
fi

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
if ! "$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    faust-streaming==0.15.3 \
    mode-streaming==0.7.1; then
    echo "no verdict: the packages cannot be installed" >&2
    exit 2
fi

cat >"$work/check.py" <<'PYTHON'
import sys
from importlib.metadata import version

from faust.windows import HoppingWindow

print(f"faust-streaming {version('faust-streaming')}, class from {HoppingWindow.__module__}")
MOMENT = 1000.5


def ranges(size, step):
    window = HoppingWindow(size, step)
    return [(start, round(end, 2)) for start, end in window.ranges(MOMENT)]


whole = ranges(2.0, 1.0)
print(f"size 2.0, step 1.0, at {MOMENT}: {whole}")
cut = ranges(2.56, 1.28)
print(f"size 2.56, step 1.28, at {MOMENT}: {cut}")
expected = [start * 1.28 for start in range(int(MOMENT / 1.28) - 1, int(MOMENT / 1.28) + 1)]
print(f"    starts that are multiples of the step: {[round(start, 2) for start in expected]}")
HoppingWindow(1.0, 0.5)
try:
    half = ranges(1.0, 0.5)
except ValueError as exc:
    half = exc
print(f"size 1.0, step 0.5, at {MOMENT}: {half!r}")
starts = [start for start, _ in cut]
as_described = (
    len(cut) == 3
    and all(start == int(start) for start in starts)
    and isinstance(half, ValueError)
)
if not as_described:
    sys.exit("CHANGED: the step is no longer cut to whole seconds")
PYTHON

code=0
timeout 60 "$work/venv/bin/python" "$work/check.py" || code=$?
if [ "$code" -gt 1 ]; then
    echo "no verdict: the check ended with status $code" >&2
    exit 2
fi
exit "$code"
