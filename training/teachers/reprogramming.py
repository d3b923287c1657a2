"""Patches of a window as mixtures of text prototypes: the trained input side of TIME-LLM.

Source: TIME-LLM (arXiv 2310.01728), section 3, "patch reprogramming", and the released code.
Shapes: windows `[batch, length]` of one channel each; patches `[batch, patches, ...]`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from training.teachers.timellm_config import TimeLLMConfig

__all__ = [
    "PatchEmbedding",
    "Reprogramming",
    "TextPrototypes",
    "cut_patches",
    "principal_directions",
    "prototype_source",
]


def cut_patches(windows: Tensor, length: int, stride: int) -> Tensor:
    """Cut windows `[batch, readings]` into overlapping patches `[batch, patches, length]`.

    The end is padded with `stride` copies of the last value first, so the number of patches is
    floor((readings - length) / stride) + 2.
    """
    padding = windows[:, -1:].expand(-1, stride)
    return torch.cat([windows, padding], dim=1).unfold(1, length, stride)


class PatchEmbedding(nn.Module):
    """Embeds patches `[batch, patches, patch_length]` to `[batch, patches, patch_width]`.

    The paper has a linear layer. The released code has a circular convolution over three patches
    without bias, through which the first patch sees the last one.
    """

    def __init__(self, config: TimeLLMConfig) -> None:
        super().__init__()
        self.is_linear = config.patch_embedding == "linear"
        self.linear: nn.Module
        if self.is_linear:
            self.linear = nn.Linear(config.patch_length, config.patch_width)
        else:
            self.linear = nn.Conv1d(
                config.patch_length,
                config.patch_width,
                kernel_size=3,
                padding=1,
                padding_mode="circular",
                bias=False,
            )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, patches: Tensor) -> Tensor:
        """Embed patches."""
        if self.is_linear:
            embedded = self.linear(patches)
        else:
            embedded = self.linear(patches.transpose(1, 2)).transpose(1, 2)
        found: Tensor = self.dropout(embedded)
        return found


def principal_directions(words: Tensor, count: int) -> Tensor:
    """Return the first principal directions `[count, width]` of word vectors `[words, width]`.

    The directions are orthogonal; each is as long as the deviation of the words along it, times
    one factor that gives them the mean norm of a word vector. Their largest entry is positive.

    Raises:
        ValueError: There are fewer than `count` directions.
    """
    values = words.double()
    centred = values - values.mean(dim=0)
    most = min(words.shape)
    if count > most:
        msg = f"{count} principal directions of {tuple(words.shape)} word vectors: at most {most}"
        raise ValueError(msg)
    variances, vectors = torch.linalg.eigh(centred.T @ centred / len(values))
    lengths = variances.flip(0)[:count].clamp_min(0).sqrt()
    directions = vectors.flip(1)[:, :count].T
    largest = directions.abs().argmax(dim=1, keepdim=True)
    directions = directions * directions.gather(1, largest).sign() * lengths[:, None]
    norm = values.norm(dim=1).mean()
    scaled: Tensor = directions * (norm / directions.norm(dim=1).mean())
    return scaled.float()


def prototype_source(config: TimeLLMConfig, words: Tensor) -> Tensor | None:
    """Return the frozen vectors `[sources, width]` that prototypes are mixed from.

    None for `free` prototypes. The control `random` has orthogonal directions that know no words,
    with the lengths of the principal ones.
    """
    if config.prototype_source == "free":
        return None
    if config.prototype_source == "words":
        return words.detach()
    directions = principal_directions(words, config.principal)
    if config.prototype_source == "principal":
        return directions
    noise = torch.randn(
        directions.shape[1],
        directions.shape[0],
        generator=torch.Generator().manual_seed(config.seed),
    )
    known: Tensor = torch.linalg.qr(noise).Q.T * directions.norm(dim=1, keepdim=True)
    return known


class TextPrototypes(nn.Module):
    """The prototypes `[prototypes, width]`: a trained linear map over frozen source vectors.

    As in the paper the map has one bias for each prototype. With `free` there is no source, and the
    prototypes themselves are trained. With `prototype_scale = "unit"` each has a root mean square
    of 1.
    """

    source: Tensor | None

    def __init__(self, config: TimeLLMConfig, source: Tensor | None, width: int) -> None:
        super().__init__()
        self.is_scaled = config.prototype_scale == "unit"
        self.register_buffer("source", source, persistent=False)
        self.mix: nn.Linear | None = None
        self.free: nn.Parameter | None = None
        if source is None:
            self.free = nn.Parameter(torch.randn(config.prototypes, width) / math.sqrt(width))
        else:
            self.mix = nn.Linear(len(source), config.prototypes)

    def forward(self) -> Tensor:
        """Return the prototypes; they do not depend on the windows."""
        if self.mix is None or self.source is None:
            assert self.free is not None  # noqa: S101 (there is a source or free vectors)
            found = self.free
        else:
            found = self.mix(self.source.T).T
        if not self.is_scaled:
            return found
        return found / found.square().mean(dim=1, keepdim=True).add(1e-12).sqrt()


class Reprogramming(nn.Module):
    """Cross-attention from patches to prototypes; returns tokens for the language model.

    Queries come from the patches, keys and values from the prototypes, once per step. Each of the
    K heads is d_ff wide, as in the code (the paper writes floor(d_m / K)).
    """

    def __init__(self, config: TimeLLMConfig, width: int) -> None:
        super().__init__()
        inner = config.heads * config.head_width
        self.heads, self.head_width = config.heads, config.head_width
        self.query = nn.Linear(config.patch_width, inner)
        self.key = nn.Linear(width, inner)
        self.value = nn.Linear(width, inner)
        self.out = nn.Linear(inner, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, patches: Tensor, prototypes: Tensor) -> tuple[Tensor, Tensor]:
        """Reprogram embedded patches.

        Args:
            patches: `[batch, patches, patch_width]`.
            prototypes: `[prototypes, width]`.

        Returns:
            Tokens `[batch, patches, width]`, and the attention before dropout
            `[batch, heads, patches, prototypes]`, which sums to 1 over the prototypes.
        """
        batch, count, _ = patches.shape
        query = self.query(patches).view(batch, count, self.heads, self.head_width)
        key = self.key(prototypes).view(-1, self.heads, self.head_width)
        value = self.value(prototypes).view(-1, self.heads, self.head_width)
        scores = torch.einsum("bphd,vhd->bhpv", query, key) / math.sqrt(self.head_width)
        attention = scores.softmax(dim=-1)
        mixed = torch.einsum("bhpv,vhd->bphd", self.dropout(attention), value)
        tokens: Tensor = self.out(mixed.reshape(batch, count, -1))
        return tokens, attention
