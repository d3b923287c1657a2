"""Distillation from a teacher that is not a language model: larger networks, or boosted trees.

The teacher scores are made out of fold (`training.teachers.ensemble` and `boosting`), because a
teacher's scores on windows it has learned from carry little more information than the labels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training.methods.plain import Plain

__all__ = ["EnsembleDistillation"]

_TEACHER_SHARE = 0.5
_TEMPERATURE = 4.0


class EnsembleDistillation(Plain):
    """The plain head; half of the loss comes from the labels, half from the teacher scores.

    Numbers: mean squared error to the teacher's number. Classes: KL divergence to its
    probabilities, both softened by temperature 4 (Hinton et al., 2015).
    """

    def loss_with_teacher(self, windows: Tensor, labels: Tensor, teacher_scores: Tensor) -> Tensor:
        """Compute the scalar loss of a batch, as `Method.loss`.

        Args:
            windows: See `Method.loss`.
            labels: See `Method.loss`.
            teacher_scores: Numbers `[batch]` or probabilities `[batch, classes]`.
        """
        output = self.head(self.encoder(windows))
        if self.largest is not None:
            scored = output[:, 0]
            own = functional.mse_loss(scored, labels.to(output.dtype) / self.largest)
            taught = functional.mse_loss(scored, teacher_scores / self.largest)
        else:
            own = functional.cross_entropy(output, labels)
            soft = torch.softmax(teacher_scores.clamp_min(1e-6).log() / _TEMPERATURE, dim=1)
            student = functional.log_softmax(output / _TEMPERATURE, dim=1)
            taught = _TEMPERATURE**2 * functional.kl_div(student, soft, reduction="batchmean")
        return (1 - _TEACHER_SHARE) * own + _TEACHER_SHARE * taught
