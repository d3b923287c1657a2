"""Copies of the accounts of all devices for whoever looks, made again only where they changed."""

from __future__ import annotations

import numpy as np

from pipeline.status.counters import DeviceAccount
from pipeline.windows.devicetable import DeviceTable, Key
from pipeline.windows.slabgroups import SlabGroups

__all__ = ["AccountCopies"]


class AccountCopies:
    """The accounts of a table, in the order of their keys."""

    def __init__(self, table: DeviceTable, groups: SlabGroups) -> None:
        self._table = table
        self._groups = groups
        self._copies: dict[Key, DeviceAccount] = {}
        self._in_order: list[Key] = []

    def all(self) -> list[DeviceAccount]:
        """All accounts; one that has not changed since the last call is the same object."""
        table = self._table
        for slot in np.flatnonzero(table.changed).tolist():
            self._copies[table.key(slot)] = table.account(slot, self._groups.rate_hz(slot))
        table.changed[:] = False
        if len(self._in_order) != len(self._copies):
            self._in_order = sorted(self._copies)
        return [self._copies[key] for key in self._in_order]

    def forget(self, key: Key) -> None:
        """Forget the account of a device."""
        if self._copies.pop(key, None) is not None:
            self._in_order.clear()
