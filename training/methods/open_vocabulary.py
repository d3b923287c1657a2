"""Knowledge Pruning with labels that have an anchor but no training example.

Training is that of `KnowledgePruning` among the seen labels. The unseen anchors are in no batch,
not even as wrong answers, because that would teach the student never to name them. Afterwards the
same layer aligns every anchor, seen or unseen, and the table contains all of them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.methods.knowledge_pruning import KnowledgePruning, normalise, symmetric_kl
from training.recipes import Recipe

__all__ = ["OpenStudent", "OpenVocabulary"]


class OpenVocabulary(KnowledgePruning):
    """Encoder plus aligned anchors, some of which are kept out of training.

    Args:
        encoder: Windows to features `[batch, d]`.
        recipe: Gives d and alpha.
        anchors: Frozen vectors of all labels `[num_answers, width]`.
        label_counts: Label frequencies of the training windows `[num_answers]`.
        unseen: Labels that do not occur in training.
    """

    position: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        recipe: Recipe,
        anchors: NDArray[np.float32],
        label_counts: NDArray[np.int64],
        unseen: Sequence[int],
    ) -> None:
        super().__init__(encoder, recipe, anchors, label_counts)
        self.seen = [label for label in range(len(anchors)) if label not in unseen]
        position = torch.full((len(anchors),), -1)
        position[self.seen] = torch.arange(len(self.seen))
        self.register_buffer("position", position)

    def loss(self, windows: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss among the seen labels; see `KnowledgePruning.loss`."""
        features = normalise(self.encoder(windows))
        table = self.aligned_anchors()[self.seen]
        places = self.position[labels]
        absent = torch.bincount(places, minlength=len(table)) == 0
        columns = torch.cat([places, torch.nonzero(absent)[:, 0]])
        return symmetric_kl(self.log_alpha.exp() * features @ table[columns].T, places)

    def exported(self) -> OpenStudent:
        """Build encoder and the tables of all labels; see `OpenStudent`."""
        with torch.no_grad():
            known = self.anchors[self.seen]
            # Training changes the layer only within the span of the seen anchors; outside of it
            # the layer is still the noise of its random start.
            within = self.anchors @ torch.linalg.pinv(known) @ known
            tables = [self.aligned_anchors(), normalise(self.alignment(within))]
            scaled = self.log_alpha.exp() * torch.stack(tables)
        return OpenStudent(copy.deepcopy(self.encoder), scaled)


class OpenStudent(nn.Module):
    """Scaled similarities of windows to all labels, seen and unseen, by two tables.

    Args:
        encoder: Windows to features.
        tables: Two tables `[2, num_answers, d]`: the first is the one Knowledge Pruning folds into
            the graph, the second projects the anchors on the span of the seen ones first.
    """

    tables: Tensor

    def __init__(self, encoder: nn.Module, tables: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("tables", tables)

    def forward(self, windows: Tensor) -> Tensor:
        """Score scaled windows `[batch, length, channels]`: `[batch, 2, num_answers]`."""
        found: Tensor = torch.einsum("bd,tkd->btk", normalise(self.encoder(windows)), self.tables)
        return found
