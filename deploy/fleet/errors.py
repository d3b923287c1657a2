"""Errors of a fleet.

```
FleetError
├── InventoryInvalid    the inventory cannot be used; the message lists every fault
└── HostFailed          one host failed; the message says why and what to do
```
"""

from __future__ import annotations

__all__ = ["FleetError", "HostFailed", "InventoryInvalid"]


class FleetError(Exception):
    """A pass over the fleet failed."""


class InventoryInvalid(FleetError):
    """The inventory cannot be used."""


class HostFailed(FleetError):
    """One host failed; the others go on."""
