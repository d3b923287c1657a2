"""Knowledge Pruning (arXiv 2406.08765): a window's feature is drawn to the anchor of its answer.

The project's note on the method is its specification and separates the paper's statements from our
inferences. This file deviates from it in two ways, both switchable by the recipe:

- `learn_alpha`: alpha is learned and acts in training and inference. The public code trains one
  variant without it, which costs 2 cycles on FD001.
- `prior_correction`: repeating a label's column n times in the training softmax equals adding
  log n to its logit, so the trained similarities lack the frequency of the labels. The graph adds
  the logarithm of the expected count per batch again. Without it, FD001 scores are 4 cycles too
  low, because the plateau label 125 makes up 30 % of the windows.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from training.recipes import Recipe

__all__ = ["KnowledgePruning", "normalise", "symmetric_kl", "vote"]

_SHARPNESS = 10.0  # target temperature 1/10: 0.99 of the mass on the positives
_EPSILON = 1e-8  # a feature whose last ReLU is all zero must not become NaN


class KnowledgePruning(nn.Module):
    """Encoder plus aligned anchors.

    Args:
        encoder: Windows to features `[batch, d]`.
        recipe: Gives task, d, alpha, trimming and prior correction.
        anchors: Frozen text vectors `[num_answers, width]`.
        label_counts: Label frequencies of the training windows `[num_answers]`.
    """

    anchors: Tensor
    prior: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        recipe: Recipe,
        anchors: NDArray[np.float32],
        label_counts: NDArray[np.int64],
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.alignment = nn.Linear(anchors.shape[1], recipe.feature_size)
        self.log_alpha = nn.Parameter(
            torch.tensor(math.log(1 / 0.07)), requires_grad=recipe.learn_alpha
        )
        self.register_buffer("anchors", torch.from_numpy(anchors.copy()))
        expected = label_counts / max(label_counts.sum(), 1) * recipe.batch_size
        prior = recipe.prior_correction * np.log(np.maximum(expected, 1.0))
        self.register_buffer("prior", torch.from_numpy(prior.astype(np.float32)))
        self.trim = recipe.trim if recipe.answers_number else None

    def aligned_anchors(self) -> Tensor:
        """Align the anchors to the feature space, rows of length 1: `[num_answers, d]`."""
        return normalise(self.alignment(self.anchors))

    def loss(self, windows: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss between windows and anchors; see `Method.loss` and `symmetric_kl`."""
        features = normalise(self.encoder(windows))
        table = self.aligned_anchors()
        absent = torch.bincount(labels, minlength=len(table)) == 0
        columns = torch.cat([labels, torch.nonzero(absent)[:, 0]])
        return symmetric_kl(self.log_alpha.exp() * features @ table[columns].T, labels)

    def exported(self) -> nn.Module:
        """Build encoder, folded anchor table and voting; see `Method.exported`."""
        with torch.no_grad():
            table = (self.log_alpha.exp() * self.aligned_anchors()).T.contiguous()
        return _Exported(copy.deepcopy(self.encoder), table, self.prior.clone(), self.trim)


class _Exported(nn.Module):
    """The part that runs on a gateway: no text anchors, no alignment layer."""

    table: Tensor
    prior: Tensor

    def __init__(
        self, encoder: nn.Module, table: Tensor, prior: Tensor, trim: float | None
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("table", table)
        self.register_buffer("prior", prior)
        self.trim = trim

    def forward(self, windows: Tensor) -> Tensor:
        logits = normalise(self.encoder(windows)) @ self.table + self.prior
        probabilities = torch.softmax(logits, dim=1)
        return probabilities if self.trim is None else vote(probabilities, self.trim)


def normalise(vectors: Tensor) -> Tensor:
    """Scale rows to length 1; a row of zeros stays zero."""
    length: Tensor = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors / (length + _EPSILON)


def symmetric_kl(similarities: Tensor, labels: Tensor) -> Tensor:
    """Compute the metric-learning loss of Knowledge Pruning.

    Args:
        similarities: Scaled cosines `[B, N]`; the first B columns are the anchors of the batch's
            own labels in batch order (duplicates kept), the others anchors of absent labels.
        labels: Integers `[B]`. They decide equality; cosines never do.

    Returns:
        Mean of window-to-anchor and anchor-to-window KL to the targets softmax(10 G), both
        divided by N.
    """
    batch, count = similarities.shape
    same = similarities.new_zeros(batch, count)
    same[:, :batch] = (labels[:, None] == labels[None, :]).to(similarities.dtype)
    log_target = functional.log_softmax(_SHARPNESS * same, dim=1)
    target = log_target.exp()
    rows = target * (log_target - functional.log_softmax(similarities, dim=1))
    columns = target * (log_target - functional.log_softmax(similarities, dim=0))
    return (rows.sum() + columns.sum()) / (2 * count)


def vote(probabilities: Tensor, trim: float) -> Tensor:
    """Compute the mean answer of the likely anchors.

    The least likely anchors are dropped as long as their cumulated probability is at most
    `trim`; the others vote with their probability.

    Args:
        probabilities: Probabilities `[batch, num_answers]`, rows sum to 1.
        trim: Mass to drop; 0 keeps the plain mean.

    Returns:
        The answer `[batch]`, in units of the grid (index of the anchor).
    """
    # torch.sort exports to the same operator; topk keeps the graph within plain ONNX opset 17.
    ascending, answers = torch.topk(
        probabilities, probabilities.shape[1], dim=1, largest=False, sorted=True
    )
    kept = (ascending.cumsum(dim=1) > trim).to(ascending.dtype)
    weights = ascending * kept
    return (weights * answers.to(ascending.dtype)).sum(dim=1) / weights.sum(dim=1)
