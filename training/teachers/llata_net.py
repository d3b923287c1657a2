"""The two branches of LLaTA and its losses (arXiv 2403.07300, later named CALF).

A token is a whole channel: `[batch, length, channels]` becomes `[batch, channels, width]`. The
temporal branch adapts the first blocks of a language model with LoRA; the textual branch passes the
same tokens, re-expressed as mixtures of principal words, through the frozen blocks. Only the
temporal branch forecasts; the textual branch is its teacher.

The paper's losses have two weaknesses: nothing stops both projections of the feature loss from
shrinking to zero together, and the textual branch never sees a target, so it can become a copy of
the branch that it should teach. So the default here (`alignment="safe"`) differs: gradients stop at
the textual branch, its projections are the identity, states are standardised before they are
compared, and the textual branch learns from the targets through a head of its own.
`alignment="paper"` gives the paper's own losses.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.teachers.backbones import Backbone
from training.teachers.llata_config import LlataConfig
from training.teachers.lora import attach_lora

__all__ = [
    "CrossAttention",
    "LlataNet",
    "LlataOutput",
    "TextStates",
    "feature_loss",
    "llata_losses",
    "normalise",
]

_EPSILON = 1e-5
_ENCODER_WIDTH = 2048


@dataclass(frozen=True, slots=True)
class TextStates:
    """What the textual branch makes of windows.

    Attributes:
        tokens: Mixtures of principal words `[batch, channels, width]`.
        states: The `blocks + 1` hidden states, each `[batch, channels, width]`.
    """

    tokens: Tensor
    states: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class LlataOutput:
    """Forecasts `[batch, horizon, channels]` and hidden states of both branches.

    Attributes:
        time: Forecast of the temporal branch, the one that counts.
        text: Forecast of the textual branch; None if it is off.
        time_states: Hidden states of the temporal branch, each `[batch, channels, width]`.
        text_states: Hidden states of the textual branch; empty if it is off.
    """

    time: Tensor
    text: Tensor | None
    time_states: tuple[Tensor, ...]
    text_states: tuple[Tensor, ...]


def normalise(windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Standardise `[batch, length, channels]` per window and channel; return mean and deviation.

    Gradients stop at mean and deviation. A constant channel becomes zero.
    """
    mean = windows.mean(dim=1, keepdim=True).detach()
    deviation = torch.sqrt(windows.var(dim=1, keepdim=True, unbiased=False) + _EPSILON).detach()
    return (windows - mean) / deviation, mean, deviation


class CrossAttention(nn.Module):
    """Multi-head attention of tokens over principal words, which all windows share.

    It has the weights of `nn.MultiheadAttention`, but keys and values are computed once per batch
    instead of once per window.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        for layer in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tensor, words: Tensor) -> Tensor:
        """Mix `words` `[count, width]` for `tokens` `[batch, channels, width]`."""
        batch, channels, width = tokens.shape
        size = width // self.heads
        query = self.query(tokens).view(batch, channels, self.heads, size)
        key = self.key(words).view(len(words), self.heads, size)
        value = self.value(words).view(len(words), self.heads, size)
        shares = torch.einsum("bchs,whs->bchw", query, key).div(size**0.5).softmax(dim=-1)
        mixed = torch.einsum("bchw,whs->bchs", shares, value)
        out: Tensor = self.out(mixed.reshape(batch, channels, width))
        return out


class LlataNet(nn.Module):
    """The net of LLaTA; without a backbone, its encoder and head are what remains.

    Args:
        config: Settings.
        backbone: Language model; it is copied, not changed. None removes it.
        words: Principal words `[count, width]`; None if the textual branch is off.
        length: Readings in a window.
        horizon: Readings in a forecast.
    """

    def __init__(
        self,
        config: LlataConfig,
        backbone: Backbone | None,
        words: Tensor | None,
        length: int,
        horizon: int,
    ) -> None:
        super().__init__()
        width = config.width if backbone is None else backbone.width
        self.embed = nn.Linear(length, width)
        self.encoder: nn.Module = nn.Identity()
        if config.encoder:
            self.encoder = nn.TransformerEncoderLayer(
                width, config.heads, _ENCODER_WIDTH, config.dropout, batch_first=True
            )
        self.head = nn.Linear(width, horizon)
        self.ridge: nn.Linear | None = None
        if config.start == "ridge":
            self.ridge = nn.Linear(length, horizon, bias=False).requires_grad_(False)
            _zero(self.head)
        self.temporal: nn.Module | None = None
        self.textual: nn.Module | None = None
        if backbone is not None:
            self.temporal = _blocks(backbone)
            _adapt(self.temporal, backbone, config)
        if config.text != "off" and backbone is not None and words is not None:
            self._add_text(config, backbone, words, length, horizon)

    def _add_text(
        self,
        config: LlataConfig,
        backbone: Backbone,
        words: Tensor,
        length: int,
        horizon: int,
    ) -> None:
        width, count = backbone.width, backbone.blocks + 1
        is_paper = config.alignment == "paper"
        self.textual = _blocks(backbone)
        # Principal words are far longer than hidden states: as they are, attention is saturated.
        scaled = words * (width**0.5 / words.norm(dim=1).mean()) if config.scale_words else words
        self.register_buffer("words", scaled)
        self.match = CrossAttention(width, config.heads)
        self.time_projections = _projections(width, count)
        self.text_projections = _projections(width, count) if is_paper else None
        self.text_head = None if is_paper else nn.Linear(width, horizon)
        if self.text_head is not None and config.start == "ridge":
            _zero(self.text_head)
        if is_paper:
            for name, value in self.textual.named_parameters():
                value.requires_grad_("position_embeddings" in name)
        self.fixed_query: nn.Linear | None = None
        if config.text == "cached":
            self.fixed_query = nn.Linear(length, width, bias=False).requires_grad_(False)
            nn.init.orthogonal_(self.fixed_query.weight)
            self.match.requires_grad_(False)
        self.is_paper = is_paper

    def forward(
        self, windows: Tensor, text: TextStates | None = None, *, with_text: bool = True
    ) -> LlataOutput:
        """Forecast windows `[batch, length, channels]` in standardised units.

        Args:
            windows: Windows.
            text: States of the textual branch from the cache; None computes them.
            with_text: Run the textual branch too, if there is one.
        """
        normed, mean, deviation = normalise(windows)
        tokens = self.encoder(self.embed(normed.transpose(1, 2)))
        states = (tokens,) if self.temporal is None else _run(self.temporal, tokens)
        last = tokens if self.temporal is None else states[-1] + tokens
        base = 0 if self.ridge is None else self.ridge(normed.transpose(1, 2))
        time = (base + self.head(last)).transpose(1, 2) * deviation + mean
        if self.textual is None or not with_text:
            return LlataOutput(time, None, states, ())
        if text is None:
            text = self.text_states(windows, tokens)
        head = self.head if self.text_head is None else self.text_head
        other = base + head(text.states[-1] + text.tokens)
        forecast = other.transpose(1, 2) * deviation + mean
        return LlataOutput(time, forecast, states, text.states)

    def text_states(self, windows: Tensor, tokens: Tensor | None = None) -> TextStates:
        """Run the textual branch; with a fixed query, its result depends on windows alone."""
        assert self.textual is not None  # noqa: S101 (callers ask for a branch that is there)
        if self.fixed_query is not None:
            fixed = self.fixed_query(normalise(windows)[0].transpose(1, 2))
            tokens = functional.layer_norm(fixed, fixed.shape[-1:])
        elif tokens is None:
            tokens = self.encoder(self.embed(normalise(windows)[0].transpose(1, 2)))
        if not self.is_paper:
            tokens = tokens.detach()
        mixed = self.match(tokens, self.words)
        return TextStates(mixed, _run(self.textual, mixed))

    def drop_text(self) -> None:
        """Delete what the forecast does not need: the textual branch and its projections."""
        self.textual = None
        for name in ("match", "time_projections", "text_projections", "text_head", "fixed_query"):
            if hasattr(self, name):
                delattr(self, name)

    def train(self, mode: bool = True) -> LlataNet:
        """Switch dropout of the temporal branch; the frozen blocks never use it."""
        super().train(mode)
        if self.textual is not None:
            self.textual.eval()
        return self


def feature_loss(
    time_states: Sequence[Tensor],
    text_states: Sequence[Tensor],
    decay: float,
    distance: str,
    *,
    is_safe: bool,
) -> Tensor:
    """Sum the distances of projected states over layers, the last layer with weight 1.

    State i of 0..N has the weight `decay ** (N - i)` (section 3.3). The safe distance is 1 minus
    the correlation over the width, so no common scale lowers it; gradients stop at `text_states`.
    """
    last = len(time_states) - 1
    total = torch.zeros(())
    for place, (time, text) in enumerate(zip(time_states, text_states, strict=True)):
        if is_safe:
            one = functional.layer_norm(time, time.shape[-1:], eps=1e-12)
            other = functional.layer_norm(text.detach(), text.shape[-1:], eps=1e-12)
            apart = (one - other).square().mean() / 2
        else:
            apart = _distance(time, text, distance)
        total = total + decay ** (last - place) * apart
    return total


def llata_losses(
    net: LlataNet,
    out: LlataOutput,
    targets: Tensor,
    config: LlataConfig,
    *,
    is_text_refused: bool = False,
) -> Mapping[str, Tensor]:
    """Return the losses of a batch by name; `total` is the one to minimise.

    Args:
        net: The net, for its projections.
        out: Its output.
        targets: `[batch, horizon, channels]`.
        config: Weights and kind of the losses.
        is_text_refused: Leave out both alignment losses, because the teacher is the worse one.
    """
    losses = {"task": _distance(out.time, targets, config.distance)}
    total = losses["task"]
    if out.text is None:
        return {**losses, "total": total}
    is_safe = config.alignment == "safe"
    if is_safe:
        losses["text"] = _distance(out.text, targets, config.distance)
        total = total + losses["text"]
    if not is_text_refused and config.output_weight:
        teacher = out.text.detach() if is_safe else out.text
        losses["output"] = _distance(out.time, teacher, config.distance)
        total = total + config.output_weight * losses["output"]
    if not is_text_refused and config.feature_weight:
        time = [
            project(s) for project, s in zip(net.time_projections, out.time_states, strict=True)
        ]
        text = list(out.text_states)
        if net.text_projections is not None:
            text = [project(s) for project, s in zip(net.text_projections, text, strict=True)]
        losses["feature"] = feature_loss(time, text, config.decay, config.distance, is_safe=is_safe)
        total = total + config.feature_weight * losses["feature"]
    return {**losses, "total": total}


def _blocks(backbone: Backbone) -> nn.Module:
    """A frozen copy of the blocks, without the word vectors."""
    words = backbone.model.get_input_embeddings()
    model: nn.Module = copy.deepcopy(backbone.model, {id(words): nn.Identity()})
    return model.eval().requires_grad_(False)


def _adapt(model: nn.Module, backbone: Backbone, config: LlataConfig) -> None:
    """Train norms and positions, and LoRA of query, key and value."""
    for name, value in model.named_parameters():
        value.requires_grad_("norm" in name.lower() or "position_embeddings" in name)
    if config.lora:
        attach_lora(
            model,
            backbone.adapted,
            rank=config.lora_rank,
            alpha=config.lora_alpha,
            dropout=config.lora_dropout,
        )


def _run(model: nn.Module, tokens: Tensor) -> tuple[Tensor, ...]:
    return tuple(model(inputs_embeds=tokens, output_hidden_states=True).hidden_states)


def _zero(layer: nn.Linear) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


def _projections(width: int, count: int) -> nn.ModuleList:
    return nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(count))


def _distance(one: Tensor, other: Tensor, kind: str) -> Tensor:
    if kind == "l1":
        return functional.l1_loss(one, other)
    return functional.smooth_l1_loss(one, other)
