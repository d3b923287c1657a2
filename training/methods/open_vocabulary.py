"""Knowledge Pruning with labels that have no training example: their anchors are all there is.

Training is that of `KnowledgePruning` among the seen labels; the unseen anchors are in no batch,
not even as wrong answers, for that would teach the student never to name them. Afterwards every
anchor, seen or not, is aligned by the same layer and stands in the table.
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
    """Encoder plus aligned anchors of which some are kept out of training.

    Args:
        encoder: windows to features `[batch, d]`.
        recipe: d and alpha.
        anchors: `[num_answers, width]` frozen vectors of all labels.
        label_counts: `[num_answers]` label frequencies of the training windows.
        unseen: labels that do not occur in training.
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
        """Symmetric KL among the seen labels; see `KnowledgePruning.loss`."""
        features = normalise(self.encoder(windows))
        table = self.aligned_anchors()[self.seen]
        places = self.position[labels]
        absent = torch.bincount(places, minlength=len(table)) == 0
        columns = torch.cat([places, torch.nonzero(absent)[:, 0]])
        return symmetric_kl(self.log_alpha.exp() * features @ table[columns].T, places)

    def exported(self) -> OpenStudent:
        """Encoder and the tables of all labels; see `OpenStudent`."""
        with torch.no_grad():
            known = self.anchors[self.seen]
            # What training never reached of the alignment is noise from its random start: within
            # the span of the seen anchors, the layer is what it has learned to be.
            within = self.anchors @ torch.linalg.pinv(known) @ known
            tables = [self.aligned_anchors(), normalise(self.alignment(within))]
            scaled = self.log_alpha.exp() * torch.stack(tables)
        return OpenStudent(copy.deepcopy(self.encoder), scaled)


class OpenStudent(nn.Module):
    """Scaled similarities of windows to all labels, seen and unseen, by two tables.

    Args:
        encoder: windows to features.
        tables: `[2, num_answers, d]`; the first is what Knowledge Pruning would fold into the
            graph, the second has the anchors projected on the span of the seen ones before.
    """

    tables: Tensor

    def __init__(self, encoder: nn.Module, tables: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("tables", tables)

    def forward(self, windows: Tensor) -> Tensor:
        """`[batch, length, channels]` scaled to `[batch, 2, num_answers]`."""
        found: Tensor = torch.einsum("bd,tkd->btk", normalise(self.encoder(windows)), self.tables)
        return found
