"""The network of TIME-LLM: what is trained around a frozen language model.

Source: TIME-LLM (arXiv 2310.01728) and its released code. Steps: instance normalisation, patches,
reprogramming to tokens, the frozen language model behind a prompt, flatten head,
de-normalisation. Channels are independent: a sample is one channel of one window. The language
model is no part of the module; it is passed in as a `PromptForm`, so the module's weights are the
trained ones and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from training.errors import TeacherError
from training.teachers.prompt_states import PromptForm
from training.teachers.prompt_statistics import EPSILON
from training.teachers.reprogramming import (
    PatchEmbedding,
    Reprogramming,
    TextPrototypes,
    cut_patches,
)
from training.teachers.timellm_config import TimeLLMConfig

__all__ = ["Forecast", "TimeLLMNetwork", "trained_weights"]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the network says of a batch of windows of one channel each.

    Attributes:
        values: Forecasts `[batch, horizon]` in the units of the windows.
        feature: Mean of the patches' last states `[batch, width]`.
        code: Attention over the prototypes, mean over heads and patches `[batch, prototypes]`; None
            without a language model.
        entropy: Mean entropy of that attention per head and patch, in nats; 0 without one.
    """

    values: Tensor
    feature: Tensor
    code: Tensor | None
    entropy: Tensor


class TimeLLMNetwork(nn.Module):
    """Forecasts windows of one channel each.

    Args:
        config: Settings.
        width: Width of the language model; 0 without one.
        source: Vectors that prototypes are mixed from; None for free ones.
        ridge: Weights `[horizon, length]` of a closed-form ridge on mean-removed windows, for
            `start = "ridge"`. The head then starts from zero, so the first forecast is the ridge's.
    """

    ridge: Tensor | None

    def __init__(
        self, config: TimeLLMConfig, width: int, source: Tensor | None, ridge: Tensor | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.embedding = PatchEmbedding(config)
        self.prototypes: TextPrototypes | None = None
        self.reprogramming: Reprogramming | None = None
        self.pool: nn.Linear | None = None
        kept = config.patch_width
        if width:
            if config.head_width > width:
                msg = (
                    f"head_width is {config.head_width}, but the backbone is {width} wide: the "
                    "head reads that many features of it"
                )
                raise TeacherError(msg)
            kept = config.head_width
            self.prototypes = TextPrototypes(config, source, width)
            self.reprogramming = Reprogramming(config, width)
            if config.reduction == "pooled":
                self.pool = nn.Linear(width, kept)
        self.head = nn.Linear(kept * config.patches, config.horizon)
        self.dropout = nn.Dropout(config.dropout)
        self.register_buffer("ridge", ridge)
        if ridge is not None:
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def forward(self, windows: Tensor, language: PromptForm | None, index: Tensor) -> Forecast:
        """Forecast windows.

        Args:
            windows: `[batch, length]`, one channel each.
            language: The frozen language model with its prompts; None without one.
            index: Prompt of every window `[batch]`.
        """
        mean = windows.mean(dim=1, keepdim=True)
        deviation = (windows.var(dim=1, unbiased=False, keepdim=True) + EPSILON).sqrt()
        normalised = (windows - mean) / deviation
        patches = cut_patches(normalised, self.config.patch_length, self.config.patch_stride)
        states = self.embedding(patches)
        code, entropy = None, windows.new_zeros(())
        if self.reprogramming is not None and self.prototypes is not None:
            if language is None:
                msg = f"the network needs its backbone {self.config.backbone} to forecast"
                raise TeacherError(msg)
            tokens, attention = self.reprogramming(states, self.prototypes())
            states = language.read(tokens, index)
            code = attention.mean(dim=(1, 2)).detach()
            entropy = -(attention * attention.clamp_min(1e-30).log()).sum(-1).mean().detach()
        found = self.dropout(self.head(self._flatten(states)))
        if self.ridge is not None:
            found = found + normalised @ self.ridge.T
        return Forecast(found * deviation + mean, states.mean(dim=1).detach(), code, entropy)

    def _flatten(self, states: Tensor) -> Tensor:
        """Reduce states `[batch, patches, width]` and flatten them feature by feature."""
        if self.reprogramming is None:
            kept = states
        elif self.pool is not None:
            kept = self.pool(states)
        else:
            kept = states[:, :, : self.config.head_width]
        return kept.transpose(1, 2).flatten(1)


def trained_weights(config: TimeLLMConfig, width: int, sources: int) -> int:
    """Return the number of trained weights by the formula of the method's parts.

    Args:
        config: Settings.
        width: Width D of the language model; 0 without one.
        sources: Vectors that prototypes are mixed from (the vocabulary in the paper).

    >>> paper = TimeLLMConfig(
    ...     length=512, patch_embedding="convolution", patch_width=32, head_width=128,
    ...     prototypes=1000, prototype_source="words",
    ... )
    >>> trained_weights(paper, 4096, 32_000)
    45411912
    """
    if config.patch_embedding == "linear":
        embedding = (config.patch_length + 1) * config.patch_width
    else:
        embedding = 3 * config.patch_length * config.patch_width
    if not width:
        return embedding + (config.patch_width * config.patches + 1) * config.horizon
    inner = config.heads * config.head_width
    mixed = width if config.prototype_source == "free" else sources + 1
    attention = (config.patch_width + 1) * inner + 2 * (width + 1) * inner + (inner + 1) * width
    pool = (width + 1) * config.head_width if config.reduction == "pooled" else 0
    head = (config.head_width * config.patches + 1) * config.horizon
    return embedding + config.prototypes * mixed + attention + pool + head
