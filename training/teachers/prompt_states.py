"""What a frozen language model keeps of a prompt, and how it reads patches behind it.

Four forms under one contract (`PromptForm`):

- `Prefix`: keys and values of every block. A causal model's prompt cannot see the patches, so they
  are computed once for each distinct text and equal those of a pass over prompt and patches.
- `Whole`: the prompt's word vectors take part in every pass, as in the paper.
- `OneToken`: the mean of the prompt's last states as one token in front of the patches. This is a
  deviation from the paper, for bidirectional models, whose prompt sees the patches.
- `NoPrompt`: patches alone.

Padding never counts: prompts of a batch are padded behind their last token, the mask excludes the
padding, and the positions of patches continue those of their own prompt.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ingest.recordings import RecordingError
from ingest.recordings.tables import read_arrays
from training.errors import TeacherError
from training.teachers.backbones import Backbone

__all__ = [
    "MAX_PREFIXES",
    "NoPrompt",
    "OneToken",
    "Prefix",
    "PromptForm",
    "Whole",
    "make_prompt_form",
]

MAX_PREFIXES = 2000
"""Most distinct prompts whose keys and values are kept; 2000 of SmolLM2 are about one gigabyte."""


class PromptForm(Protocol):
    """Runs patches through a frozen language model, behind the prompts of their windows."""

    def read(self, tokens: Tensor, index: Tensor) -> Tensor:
        """Return the last states `[batch, patches, width]` of the patches.

        Args:
            tokens: Reprogrammed patches `[batch, patches, width]`; gradients reach them.
            index: Text of every window `[batch]`.
        """


class NoPrompt:
    """Patches alone."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone

    def read(self, tokens: Tensor, index: Tensor) -> Tensor:
        """Return the last states of the patches."""
        del index
        mask = torch.ones(tokens.shape[:2], dtype=torch.long)
        states: Tensor = self._backbone.model(
            inputs_embeds=tokens, attention_mask=mask
        ).last_hidden_state
        return states


class Whole:
    """The prompt's tokens take part in every pass."""

    def __init__(self, backbone: Backbone, texts: Sequence[str]) -> None:
        self._backbone = backbone
        self._tokens = [backbone.encode(text) for text in texts]

    def read(self, tokens: Tensor, index: Tensor) -> Tensor:
        """Return the last states of the patches."""
        prompts = [self._tokens[place] for place in index.tolist()]
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        longest = int(lengths.max())
        if (needed := longest + tokens.shape[1]) > self._backbone.max_tokens:
            msg = (
                f"prompt and patches are {needed} tokens, but backbone {self._backbone.name} reads "
                f"{self._backbone.max_tokens}: shorten the window or the description of the data"
            )
            raise TeacherError(msg)
        padded = [prompt + [0] * (longest - len(prompt)) for prompt in prompts]
        embedded = self._backbone.embed(torch.tensor(padded).flatten().tolist())
        embedded = embedded.view(len(prompts), longest, -1)
        mask, positions = _mask_and_positions(lengths, longest, tokens.shape[1])
        states: Tensor = self._backbone.model(
            inputs_embeds=torch.cat([embedded, tokens], dim=1),
            attention_mask=mask,
            position_ids=positions,
        ).last_hidden_state
        return states[:, longest:]


class Prefix:
    """Keys and values of the prompts of a causal model, computed once for each text."""

    def __init__(self, backbone: Backbone, texts: Sequence[str], cache: Path | None) -> None:
        if len(texts) > MAX_PREFIXES:
            msg = (
                f"{len(texts)} distinct prompts, but keys and values of at most {MAX_PREFIXES} are "
                "kept: use statistics 'bucketed', a larger statistics_step or fewer bucketed_lags"
            )
            raise TeacherError(msg)
        self._backbone = backbone
        self._states = _cached(backbone, "prefix", texts, cache, _prefix_of)
        self._lengths = torch.tensor([state.shape[2] for state in self._states])

    def read(self, tokens: Tensor, index: Tensor) -> Tensor:
        """Return the last states of the patches."""
        from transformers import DynamicCache

        lengths = self._lengths[index]
        longest = int(lengths.max())
        chosen = [self._states[place] for place in index.tolist()]
        past = chosen[0].new_zeros(len(chosen), *chosen[0].shape[:2], longest, *chosen[0].shape[3:])
        for row, state in enumerate(chosen):
            past[row, :, :, : state.shape[2]] = state
        past = past.permute(1, 2, 0, 4, 3, 5)  # [blocks, 2, batch, heads, tokens, head_width]
        memory = DynamicCache()
        for block, (keys, values) in enumerate(past):
            memory.update(keys, values, block)
        mask, positions = _mask_and_positions(lengths, longest, tokens.shape[1])
        states: Tensor = self._backbone.model(
            inputs_embeds=tokens,
            attention_mask=mask,
            position_ids=positions[:, longest:],
            past_key_values=memory,
            use_cache=True,
        ).last_hidden_state
        return states


class OneToken:
    """The mean of a prompt's last states, as long as a mean word vector, as one token."""

    def __init__(self, backbone: Backbone, texts: Sequence[str], cache: Path | None) -> None:
        self._backbone = backbone
        self._vectors = torch.stack(_cached(backbone, "token", texts, cache, _token_of))

    def read(self, tokens: Tensor, index: Tensor) -> Tensor:
        """Return the last states of the patches."""
        joined = torch.cat([self._vectors[index][:, None], tokens], dim=1)
        states: Tensor = self._backbone.model(
            inputs_embeds=joined,
            attention_mask=torch.ones(joined.shape[:2], dtype=torch.long),
        ).last_hidden_state
        return states[:, 1:]


def make_prompt_form(
    form: str, backbone: Backbone, texts: Sequence[str], cache: Path | None = None
) -> PromptForm:
    """Prepare the prompts `texts` for a backbone.

    Args:
        form: `prefix`, `whole`, `token` or `none`; `auto` is `prefix` for a causal backbone, else
            `token`.
        backbone: The frozen language model.
        texts: Distinct texts; windows name theirs by its place.
        cache: Folder that keeps what was computed of each text; a text found there needs no pass.

    Raises:
        TeacherError: `prefix` with a bidirectional backbone, or too many texts for it.
    """
    if form == "auto":
        form = "prefix" if backbone.is_causal else "token"
    if form == "none":
        return NoPrompt(backbone)
    if form == "whole":
        return Whole(backbone, texts)
    if form == "token":
        return OneToken(backbone, texts, cache)
    if not backbone.is_causal:
        msg = (
            f"prompt_form is 'prefix', but the prompt of the bidirectional backbone "
            f"{backbone.name} sees the patches: use 'token' or 'whole'"
        )
        raise TeacherError(msg)
    return Prefix(backbone, texts, cache)


def _mask_and_positions(lengths: Tensor, longest: int, patches: int) -> tuple[Tensor, Tensor]:
    """Return mask and positions `[batch, longest + patches]`; padded tokens have position 0."""
    places = torch.arange(longest)
    is_text = places < lengths[:, None]
    behind = lengths[:, None] + torch.arange(patches)
    mask = torch.cat([is_text.long(), torch.ones_like(behind)], dim=1)
    return mask, torch.cat([torch.where(is_text, places, 0), behind], dim=1)


@torch.no_grad()
def _prefix_of(backbone: Backbone, text: str) -> Tensor:
    """Compute keys and values `[blocks, 2, tokens, heads, head_width]` of one text."""
    from transformers import DynamicCache

    memory = DynamicCache()
    tokens = backbone.embed(backbone.encode(text))[None]
    mask = torch.ones(tokens.shape[:2], dtype=torch.long)
    backbone.model(
        inputs_embeds=tokens, attention_mask=mask, past_key_values=memory, use_cache=True
    )
    pairs = [torch.stack(_keys_and_values(memory, block)) for block in range(backbone.blocks)]
    return torch.stack(pairs)[:, :, 0].transpose(2, 3).contiguous()


def _keys_and_values(memory: Any, block: int) -> tuple[Tensor, Tensor]:
    """Return keys and values of a block; transformers renamed their place in version 4.54."""
    if hasattr(memory, "layers"):
        return memory.layers[block].keys, memory.layers[block].values
    return memory.key_cache[block], memory.value_cache[block]


@torch.no_grad()
def _token_of(backbone: Backbone, text: str) -> Tensor:
    """Compute the vector `[width]` that stands for a text."""
    tokens = backbone.embed(backbone.encode(text))[None]
    mask = torch.ones(tokens.shape[:2], dtype=torch.long)
    mean = backbone.model(inputs_embeds=tokens, attention_mask=mask).last_hidden_state[0].mean(0)
    vector: Tensor = mean / mean.norm() * backbone.words.norm(dim=1).mean()
    return vector


def _cached(
    backbone: Backbone, form: str, texts: Sequence[str], cache: Path | None, compute: Any
) -> list[Tensor]:
    """Return what `compute` gives for each text; only texts that the cache lacks are computed."""
    known = {} if cache is None else _read(_cache_file(backbone, form, cache))
    missing = [text for text in texts if text not in known]
    for text in missing:
        known[text] = compute(backbone, text)
    if missing and cache is not None:
        _write(_cache_file(backbone, form, cache), known)
    return [known[text] for text in texts]


def _cache_file(backbone: Backbone, form: str, cache: Path) -> Path:
    facts = repr((backbone.name, backbone.weights_hash, backbone.blocks, form))
    return cache / f"prompts-{form}-{hashlib.sha256(facts.encode()).hexdigest()[:16]}.npz"


def _read(path: Path) -> dict[str, Tensor]:
    if not path.exists():
        return {}
    try:
        texts = [str(text) for text in read_arrays(path, ("texts",), "cached states")["texts"]]
        names = [f"state_{n}" for n in range(len(texts))]
        states = read_arrays(path, names, "cached states")
    except RecordingError as exc:
        msg = f"the cache {path} cannot be read ({exc}): delete it and run the teacher again"
        raise TeacherError(msg) from exc
    return {text: torch.from_numpy(states[name]) for text, name in zip(texts, names, strict=True)}


def _write(path: Path, states: dict[str, Tensor]) -> None:
    """Write the states, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp.npz")
    arrays: dict[str, Any] = {
        f"state_{n}": state.numpy() for n, state in enumerate(states.values())
    }
    np.savez(temporary, texts=np.array(list(states)), **arrays)
    temporary.replace(path)
