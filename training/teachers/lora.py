"""Low-rank adaptation (LoRA, arXiv 2106.09685) of the linear layers of a frozen model."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor, nn

from training.errors import TeacherError

__all__ = ["LoraLinear", "attach_lora"]


class LoraLinear(nn.Module):
    """A frozen linear layer plus a trained correction of low rank.

    `y = W x + b + (alpha / rank) up(down(dropout(x)))`; `up` starts at zero, so an untrained
    correction changes nothing.
    """

    def __init__(self, frozen: nn.Linear, rank: int, alpha: float, dropout: float) -> None:
        super().__init__()
        self.frozen = frozen.requires_grad_(False)
        self.down = nn.Parameter(torch.empty(rank, frozen.in_features))
        self.up = nn.Parameter(torch.zeros(frozen.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        self.scale = alpha / rank
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map `[..., in]` to `[..., out]`."""
        correction = self.dropout(inputs) @ self.down.T @ self.up.T
        adapted: Tensor = self.frozen(inputs) + self.scale * correction
        return adapted


def attach_lora(
    model: nn.Module, names: Collection[str], *, rank: int, alpha: float, dropout: float
) -> int:
    """Replace the linear layers of `model` that have one of these names; return their number.

    Raises:
        TeacherError: No layer has one of the names.
    """
    found = [
        (parent, name, layer)
        for parent in model.modules()
        for name, layer in parent.named_children()
        if name in names and isinstance(layer, nn.Linear)
    ]
    if not found:
        msg = f"no linear layer is named {', '.join(sorted(names))}: LoRA has nothing to adapt"
        raise TeacherError(msg)
    for parent, name, layer in found:
        setattr(parent, name, LoraLinear(layer, rank, alpha, dropout))
    return len(found)
