"""Settings of LLaTA, flat, checked when they are made."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import get_type_hints

from training.errors import TeacherError

__all__ = ["LlataConfig"]

_ALLOWED = {
    "backbone": ("smollm2", "minilm", "none"),
    "weights": ("trained", "random"),
    "text": ("live", "cached", "off"),
    "words": ("principal", "random"),
    "alignment": ("safe", "paper"),
    "distance": ("l1", "smooth_l1"),
    "start": ("none", "ridge"),
}


@dataclass(frozen=True, slots=True)
class LlataConfig:
    """All settings of a run of LLaTA besides the data; the defaults are for two cores."""

    backbone: str = "smollm2"
    """`smollm2`, `minilm`, or `none`: the language model is removed, encoder and head stay."""
    blocks: int = 6
    """Blocks of the backbone."""
    weights: str = "trained"
    """Weights of the backbone: `trained` on text, or `random` (control)."""
    text: str = "cached"
    """Textual branch: `live` computes it in each step, `cached` once per window (fixed query and
    untrained cross-attention), `off` leaves it out."""
    words: str = "principal"
    """Principal words, or `random` directions with the same spectrum (control)."""
    word_count: int = 256
    """Number of principal words; the paper has 500, a width of 384 allows 383."""
    scale_words: bool = True
    """Scale principal words to the mean length of hidden states."""
    alignment: str = "safe"
    """`safe` or the `paper`'s own losses; see `training.teachers.llata_net`."""
    output_weight: float = 1.0
    """Weight of the output-consistency loss."""
    feature_weight: float = 0.01
    """Weight of the feature loss."""
    decay: float = 0.8
    """Weight of a layer in the feature loss, relative to the next layer."""
    refuse_worse_text: bool = True
    """Align with the textual branch only after an epoch in which its validation error was lower."""
    lora: bool = True
    """Adapt query, key and value of the temporal branch."""
    lora_rank: int = 8
    lora_alpha: float = 32.0
    lora_dropout: float = 0.1
    start: str = "ridge"
    """`ridge`: the net adds to the closed-form ridge of the training windows and starts as it, and
    the ridge stays a candidate for the best epoch. `none`: the papers' net."""
    encoder: bool = True
    """Keep the Transformer layer over channels before the blocks."""
    width: int = 576
    """Width of the tokens without a backbone."""
    heads: int = 12
    """Heads of the encoder and of the cross-attention."""
    dropout: float = 0.1
    """Dropout of the encoder."""
    distance: str = "l1"
    """Distance of all losses, `l1` or `smooth_l1`."""
    epochs: int = 20
    patience: int = 5
    """Epochs without a lower validation error before the run stops."""
    batch: int = 64
    rate: float = 5e-4
    projection_rate: float = 1e-4
    """Rate of the projections of the feature loss; it is constant."""
    cosine_period: int = 20
    """Epochs in which the rate of all other weights falls to zero."""
    stride: int = 1
    """Distance between two training windows, in readings."""
    validation_stride: int = 4
    """Distance between two validation windows, in readings."""
    share: float = 1.0
    """Share of the training rows that is used, the oldest ones (few-shot: 0.05, 0.1)."""
    product_stride: int = 1
    """Distance between two windows of the products."""
    folds: int = 1
    """1: the products are the trained net's own forecasts of its training windows. K > 1: each
    contiguous block of time is forecast by a net that has not seen it."""
    features: bool = False
    """Put the last states of the temporal branch into the products, for feature losses."""
    seed: int = 1

    def __post_init__(self) -> None:
        for key, kind in get_type_hints(LlataConfig).items():
            value = getattr(self, key)
            if not isinstance(value, kind) and not (kind is float and isinstance(value, int)):
                self._refuse(key, kind.__name__)
        for key, allowed in _ALLOWED.items():
            if getattr(self, key) not in allowed:
                self._refuse(key, " or ".join(allowed))
        if not 0 < self.share <= 1:
            self._refuse("share", "above 0 and at most 1")
        for key in (
            "blocks",
            "epochs",
            "batch",
            "stride",
            "validation_stride",
            "product_stride",
            "folds",
        ):
            if getattr(self, key) < 1:
                self._refuse(key, "at least 1")
        if self.features and self.folds > 1:
            self._refuse("features", "false with folds: each fold has states of its own")
        if self.text != "off" and self.backbone == "none":
            self._refuse("text", "off without a backbone")
        if self.text == "cached" and self.alignment == "paper":
            self._refuse("alignment", "safe with a cached textual branch: it is not trained")

    def as_request(self) -> dict[str, str | int | float | bool | None]:
        """Return the settings for `ProductRequest.config`."""
        return asdict(self)

    def _refuse(self, key: str, expected: str) -> None:
        msg = f"llata: {key} is {getattr(self, key)!r}, expected {expected}"
        raise TeacherError(msg)
