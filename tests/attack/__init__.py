"""Attacks on a running product: what must be neither lost nor doubled, and what must be said.

Each file attacks one promise (log files, clock, flood, secrets, HTTP, ...) and reports what it
counted by the fixture `attack`. The ordinary test run takes the short form, a few seconds a test.

    make attack                                 # the long form, writes docs/results/attacks.md
    make attack ARGS="--suite clock"            # one suite of it; its rows are kept
    make attack ARGS="--page"                   # nothing is run; the page of all rows that are kept
    make attack ARGS="--short --suite clock"    # the short form

A test looks like this:

    def test_a_flipped_bit_is_never_silent(attack: Attack, tmp_path: Path) -> None:
        flips = attack.size(short=40, long=400)
        ...
        attack.report(count=flips, lost=silent, doubled=0, unit="bits flipped")

`report` writes the row first and fails afterwards, so that the table also shows what broke.

The rows of each suite are kept in `build/attack/SUITE.jsonl` as each test ends, so an interrupted
run loses one test, and the page can be made of suites that were run on different days.

Files: `account.py` (rows), `results.py` (rows that are kept), `page.py` (the page), `conftest.py`
(the fixture), `__main__.py` (the command).
The plant with gateway and broker, and devices with numbered readings, are those of `tests.e2e`
(`Plant`, `NumberedDevices`); whole sites are those of `tests.chaos`.
"""
