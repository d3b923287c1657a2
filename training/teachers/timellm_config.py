"""The configuration of one TIME-LLM teacher: every setting besides data and backbone weights.

Source: TIME-LLM (arXiv 2310.01728) and its released code. A key that chooses between the paper, the
code and a deviation of ours says which is which.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from training.errors import RecipeError

__all__ = ["TimeLLMConfig"]

_ALLOWED = {
    "backbone": ("smollm2", "minilm", "none"),
    "weights": ("trained", "random"),
    "patch_embedding": ("linear", "convolution"),
    "prototype_source": ("principal", "words", "random", "free"),
    "prototype_scale": ("unit", "none"),
    "prompt": ("full", "none", "wrong-domain", "shuffled"),
    "prompt_form": ("auto", "prefix", "whole", "token"),
    "statistics": ("bucketed", "exact", "official"),
    "reduction": ("first", "pooled"),
    "start": ("none", "ridge"),
}
"""Values of the keys that name something."""


@dataclass(frozen=True, slots=True)
class TimeLLMConfig:
    """Settings of a TIME-LLM teacher. Two equal configurations give equal weights on equal data."""

    backbone: str = "smollm2"
    """`smollm2` (causal), `minilm` (bidirectional), or `none`: the control without a language model
    (patches go to the head)."""
    weights: str = "trained"
    """`trained` on text, or `random`: the same frozen network without that training."""
    blocks: int = 6
    """Blocks of the backbone that are used."""
    length: int = 96
    """Look-back T in readings."""
    horizon: int = 96
    """Readings to forecast, H."""
    patch_length: int = 16
    """Readings in a patch."""
    patch_stride: int = 8
    """Distance of two patches; the window's end is padded with as many copies of its last value."""
    patch_embedding: str = "linear"
    """`linear` as in the paper, or `convolution`: the code's circular one over three patches."""
    patch_width: int = 16
    """Width of an embedded patch, d_m."""
    heads: int = 8
    """Heads of the reprogramming attention, K."""
    head_width: int = 32
    """Width of a head and of a token in the head of the forecast, d_ff."""
    prototypes: int = 100
    """Text prototypes, V'."""
    prototype_source: str = "principal"
    """What the prototypes are mixed from: `principal` directions of the word vectors (a cheaper
    map with the same reach), all `words` as in the paper, or a control: a `random` matrix with the
    spectrum of the directions, `free` vectors of their own."""
    prototype_scale: str = "unit"
    """`unit` divides a prototype by its root mean square, a deviation: without it (`none`, as in
    the paper) the attention starts so flat that all patches become nearly the same token, and
    short training stays there."""
    principal: int = 256
    """Principal directions of the word vectors."""
    prompt: str = "full"
    """`full`, or a control: `none`, `wrong-domain` (another data set's description), `shuffled`
    (the statistics of another window)."""
    prompt_form: str = "auto"
    """`prefix`: keys and values of the prompt, computed once (causal backbones). `whole`: the
    prompt's tokens in every pass, as in the paper. `token`: the mean of the prompt's states as one
    token, a deviation. `auto`: prefix for a causal backbone, else token."""
    statistics: str = "bucketed"
    """`exact` (three decimals, five lags), `official` (the code's numbers, lag 0 included), or
    `bucketed`: rounded, so that a few hundred prompts serve all windows."""
    statistics_step: float = 1.0
    """Bucket of minimum and maximum, in deviations of the window; half of it for the median."""
    bucketed_lags: int = 1
    """Lags in a bucketed prompt, in half periods of the series."""
    reduction: str = "first"
    """What the head reads of a state: the `first` d_ff features as in the code, or a `pooled` map
    of all features to d_ff."""
    start: str = "none"
    """`ridge`: the network learns what the closed-form ridge leaves; its head starts from zero, and
    training that does not help gives back the ridge."""
    dropout: float = 0.1
    """Dropout of patches, attention and, while training, the forecast."""
    stride: int = 16
    """Sub-sampling: a pass learns from one in `stride` of the training windows, because a backbone
    is slow. Each pass draws others, so all count in the end. 1 uses all in every pass."""
    product_stride: int = 1
    """Every `product_stride`-th training window gets a forecast for students."""
    share: float = 1.0
    """Share of the training part, its oldest rows, that is learned from (few-shot)."""
    folds: int = 1
    """From 2 on, forecasts for students are made out of fold: each of so many contiguous blocks of
    time by a network that shares no reading with it. Costs that many trainings more."""
    validation_stride: int = 7
    """Every `validation_stride`-th validation window decides when to stop. Seven hits every hour of
    the day; eight would see three of them."""
    epochs: int = 6
    """Most passes over the training windows."""
    patience: int = 3
    """Passes without a better validation error after which training stops."""
    batch_size: int = 64
    """Windows of one channel in a step."""
    learning_rate: float = 1e-3
    """Rate of Adam; a cosine takes it down to zero over `epochs`."""
    seed: int = 0
    """Seed of weights, order, dropout and the controls."""

    def __post_init__(self) -> None:
        for key, values in _ALLOWED.items():
            if getattr(self, key) not in values:
                msg = f"TIME-LLM: {key} is {getattr(self, key)!r}, expected one of {values}"
                raise RecipeError(msg)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int) and field.name != "seed" and value < 1:
                msg = f"TIME-LLM: {field.name} is {value}, expected a positive number"
                raise RecipeError(msg)
        if self.length < self.patch_length:
            msg = (
                f"TIME-LLM: length is {self.length}, shorter than one patch of "
                f"{self.patch_length} readings: choose a longer window or shorter patches"
            )
            raise RecipeError(msg)
        if not 0 < self.share <= 1 or not 0 <= self.dropout < 1:
            msg = (
                f"TIME-LLM: share is {self.share}, dropout {self.dropout}: expected share in "
                "(0, 1], dropout in [0, 1)"
            )
            raise RecipeError(msg)
        if self.backbone == "none" and self.weights == "random":
            msg = "TIME-LLM: backbone 'none' has no weights; leave weights at 'trained'"
            raise RecipeError(msg)

    @property
    def patches(self) -> int:
        """Patches of a window, P: floor((T - patch length) / stride) + 2.

        >>> TimeLLMConfig(length=512).patches, TimeLLMConfig(length=96).patches
        (64, 12)
        """
        return (self.length - self.patch_length) // self.patch_stride + 2

    @property
    def digest(self) -> str:
        """Sixteen hex digits that name this configuration."""
        text = json.dumps(self.changes(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def changes(self) -> dict[str, Any]:
        """Return the keys whose values are not the defaults, for ledgers and digests."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }
