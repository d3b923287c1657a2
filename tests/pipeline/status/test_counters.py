"""Counters of readings balance and add up."""

from __future__ import annotations

from dataclasses import replace

from pipeline.status.counters import DeviceAccount, sum_accounts


def test_an_account_balances_when_each_reading_is_in_one_term() -> None:
    account = DeviceAccount(
        "s", "d", "x", received=10, windowed=6, duplicate=1, late=2, dead_lettered=1
    )
    assert account.balances
    assert replace(account, late=1).missing == 1


def test_totals_are_the_sums_of_the_accounts() -> None:
    one = DeviceAccount(
        "s", "d", "x", received=10, windowed=6, duplicate=1, late=2, dead_lettered=1
    )
    totals = sum_accounts([one, replace(one, device="e", received=11, gaps=3)])
    assert (totals.received, totals.gaps, totals.missing) == (21, 3, 1)
