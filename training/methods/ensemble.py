"""A teacher that is no language model: the student also learns from an ensemble's scores.

The scores are out of fold (`training.teachers.ensemble`): a teacher's scores on windows it has
learned from would say little more than the labels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training.methods.plain import Plain

__all__ = ["EnsembleTaught"]

_TEACHER_SHARE = 0.5
_TEMPERATURE = 4.0


class EnsembleTaught(Plain):
    """The plain head; half of the loss comes from the labels, half from the teacher.

    RUL: mean squared error to the teacher's RUL. Activity: KL to its probabilities, both softened
    by temperature 4 (Hinton et al., 2015).
    """

    def loss_with(self, windows: Tensor, labels: Tensor, hints: Tensor) -> Tensor:
        """Scalar loss of a batch, as `Method.loss`.

        `hints` are the teacher's scores, `[batch]` cycles or `[batch, classes]` probabilities.
        """
        output = self.head(self.encoder(windows))
        if self.max_rul is not None:
            scored = output[:, 0]
            own = functional.mse_loss(scored, labels.to(output.dtype) / self.max_rul)
            taught = functional.mse_loss(scored, hints / self.max_rul)
        else:
            own = functional.cross_entropy(output, labels)
            soft = torch.softmax(hints.clamp_min(1e-6).log() / _TEMPERATURE, dim=1)
            student = functional.log_softmax(output / _TEMPERATURE, dim=1)
            taught = _TEMPERATURE**2 * functional.kl_div(student, soft, reduction="batchmean")
        return (1 - _TEACHER_SHARE) * own + _TEACHER_SHARE * taught
