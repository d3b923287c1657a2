"""Several students of one make in one graph: they differ in their first weights and in dropout.

Each member learns for itself; what is exported is the mean of their scores. Three members of 17 000
weights are one student of 51 000, with less luck in it than a single one of that size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from training.methods.contract import Method

__all__ = ["Committee"]


class Committee(nn.Module):
    """Methods that learn side by side.

    Args:
        members: methods as `build_method` makes them, each with its own encoder.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def loss(self, windows: Tensor, labels: Tensor) -> Tensor:
        """Sum of the members' losses, so that each learns as if it were alone."""
        return torch.stack([one.loss(windows, labels) for one in self._methods()]).sum()

    def exported(self) -> nn.Module:
        """The mean of the members' scores; see `Method.exported`."""
        return _Exported([one.exported() for one in self._methods()])

    def _methods(self) -> list[Method]:
        return list(self.members)  # type: ignore[arg-type]  # a ModuleList knows modules only


class _Exported(nn.Module):
    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, windows: Tensor) -> Tensor:
        total: Tensor = torch.stack([member(windows) for member in self.members]).mean(dim=0)
        return total
