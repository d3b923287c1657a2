"""Several equal students in one graph that differ in their first weights and in dropout.

Each member learns independently; the exported graph gives the mean of their scores. Three members
of 17 000 weights make one student of 51 000 weights whose error varies less with the seed than that
of a single network of this size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from training.methods.contract import Method

__all__ = ["Committee"]


class Committee(nn.Module):
    """Methods that learn side by side.

    Args:
        members: Methods as `build_method` makes them, each with its own encoder.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def loss(self, windows: Tensor, labels: Tensor) -> Tensor:
        """Sum the losses of the members, so that each learns as if it were alone."""
        return torch.stack([one.loss(windows, labels) for one in self._methods()]).sum()

    def loss_with_teacher(self, windows: Tensor, labels: Tensor, teacher_scores: Tensor) -> Tensor:
        """Sum the losses of the members that have a teacher; see `EnsembleDistillation`."""
        members: Any = self._methods()
        losses = [one.loss_with_teacher(windows, labels, teacher_scores) for one in members]
        return torch.stack(losses).sum()

    def exported(self) -> nn.Module:
        """Build the graph of the mean score of the members; see `Method.exported`."""
        return _Exported([one.exported() for one in self._methods()])

    def _methods(self) -> list[Method]:
        return list(self.members)  # type: ignore[arg-type]  # a ModuleList is typed as modules only


class _Exported(nn.Module):
    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, windows: Tensor) -> Tensor:
        total: Tensor = torch.stack([member(windows) for member in self.members]).mean(dim=0)
        return total
