"""Language models of a few thousand random weights, for tests of what surrounds a backbone."""

from __future__ import annotations

import torch
from torch import nn

from training.teachers.backbones import Backbone

__all__ = ["WordTokenizer", "tiny_backbone"]

_VOCABULARY = 97
_WIDTH = 24


class _Encoding:
    def __init__(self, ids: list[int]) -> None:
        self.ids = ids


class WordTokenizer:
    """Gives every character a token, with a mark in front of the text."""

    def encode(self, text: str, add_special_tokens: bool = True) -> _Encoding:
        marks = [1] if add_special_tokens else []
        return _Encoding(marks + [2 + ord(sign) % (_VOCABULARY - 2) for sign in text])


def tiny_backbone(*, is_causal: bool = True, blocks: int = 2, seed: int = 0) -> Backbone:
    """Build a causal Llama or a bidirectional BERT with random weights, frozen."""
    from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel

    sizes = {
        "vocab_size": _VOCABULARY,
        "hidden_size": _WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": blocks,
        "num_attention_heads": 4,
        "max_position_embeddings": 512,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module
        if is_causal:
            model = LlamaModel(LlamaConfig(**sizes, num_key_value_heads=2, use_cache=False))
        else:
            model = BertModel(BertConfig(**sizes), add_pooling_layer=False)
    # Larger than the initial deviation of 0.02, so that attention matters.
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim > 1:
                weights.mul_(8)
    model.eval().requires_grad_(False)
    return Backbone(
        name="tiny-causal" if is_causal else "tiny-encoder",
        model=model,
        words=model.get_input_embeddings().weight.detach(),
        blocks=blocks,
        is_causal=is_causal,
        max_tokens=512,
        adapted=("q_proj", "k_proj", "v_proj") if is_causal else ("query", "key", "value"),
        tokenizer=WordTokenizer(),
        weights_hash=f"random seed {seed}",
    )
