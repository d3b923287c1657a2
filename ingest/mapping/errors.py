"""Faults of messages; `compiled` turns each into a refusal or a part of one.

```
MappingFault
├── BodyFault      a body is not of the format: the whole message is refused
├── ObjectFault    one object of a message is no reading
└── ValueFault     one value is no number of its channel
```
"""

from __future__ import annotations

__all__ = ["BodyFault", "MappingFault", "ObjectFault", "ValueFault"]


class MappingFault(ValueError):
    """A message, or a part of it, does not fit the mapping; the message says why."""


class BodyFault(MappingFault):
    """A body is not of the mapping's format."""


class ObjectFault(MappingFault):
    """One object is no reading."""


class ValueFault(MappingFault):
    """One value is no number of its channel."""
