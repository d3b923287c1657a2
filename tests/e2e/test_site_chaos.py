"""The chaos ledger in short: five rounds on a whole site; `make chaos` does fifty."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.ledger import run_chaos


@pytest.mark.needs_kafka_server
@pytest.mark.needs_influxd
@pytest.mark.needs_mosquitto
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_is_missing_after_kills_and_a_pause_of_a_whole_site(tmp_path: Path) -> None:
    outcome = run_chaos(tmp_path, rounds=5, devices=20, seed=5, longest_pause_s=12.0)
    assert len(outcome.faults) == 5
    account = outcome.account
    assert account.windows > 0
    assert account.windowed == account.readings > 0
    copies = outcome.sent_twice + outcome.sent_again
    assert account.duplicate + account.late >= outcome.sent_twice * 10 > 0, (account, copies)
