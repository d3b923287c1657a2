"""Errors of making a bundle.

```
BundleError
├── TargetUnknown     no bundle is made for this machine or this Python
├── CheckoutInvalid   the checkout is no clone with git, or it lacks a file
├── FetchFailed       pip could not fetch or build a wheel
└── WheelInvalid      a file is no wheel, or it contradicts itself
```
"""

from __future__ import annotations

__all__ = ["BundleError", "CheckoutInvalid", "FetchFailed", "TargetUnknown", "WheelInvalid"]


class BundleError(Exception):
    """A bundle cannot be made; the message says why and what to do."""


class TargetUnknown(BundleError):
    """No bundle is made for this machine or this Python."""


class CheckoutInvalid(BundleError):
    """The checkout is no clone with git, or it lacks a file."""


class FetchFailed(BundleError):
    """Pip could not fetch or build a wheel; the message quotes it."""


class WheelInvalid(BundleError):
    """A file is no wheel, or it contradicts itself."""
