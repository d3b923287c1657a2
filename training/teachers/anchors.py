"""Anchors: one text vector per possible answer, computed once by a frozen text encoder.

`compute_anchors` loads the encoder; `python -m training.teachers.anchors` makes one small array per
set of prompts (rul 126x384, activity 6x384, ...), committed under training/teachers/anchors_cache
with the digests of prompts and encoder. Student training reads only these files: it imports no
transformers and needs no model weights.

The encoder is all-MiniLM-L6-v2 (22.7 M weights, licence of the weights: Apache-2.0) unless another
one of `training.teachers.text_encoders` is named.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ingest.recordings import RecordingError
from ingest.recordings.tables import float32_array, read_arrays
from training.errors import AnchorCacheError, RecipeError
from training.recipes import Recipe
from training.teachers.prompts import ATTRIBUTES, PROMPTS, SENTENCES_APART
from training.teachers.text_encoders import ENCODERS, find_encoder

__all__ = [
    "COMPARED",
    "Anchors",
    "anchors_of",
    "compute_anchors",
    "control_anchors",
    "random_anchors",
    "read_anchors",
    "readout_of",
    "write_anchors",
]

CACHE = Path(__file__).parent / "anchors_cache"
COMPARED = tuple(
    name
    for name in PROMPTS
    if name.startswith(("activity", "spsw", "wisdm")) and not name.endswith("-cls")
)
"""Sets of prompts of which the encoders are compared (docs/knowledge-pruning.md, Better text)."""
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


def read_anchors(prompt_set: str, encoder: str = "minilm", *, folder: Path = CACHE) -> Anchors:
    """Read the cached text anchors of a set of prompts (`rul`, `activity` for UCI HAR, ...).

    Args:
        prompt_set: Key of `PROMPTS`.
        encoder: Key of `ENCODERS`: encoder and readout. Caches exist for `minilm` of all sets, and
            of the others for the sets of `COMPARED`.
        folder: Folder of the caches.

    Raises:
        AnchorCacheError: The file is missing or damaged, or was made from other prompts or by
            another encoder.
        TeacherError: There is no such encoder.
    """
    used = find_encoder(encoder)
    path = _path(prompt_set, encoder, folder)
    try:
        cache = read_arrays(path, ("vectors", "prompts", "encoder", "array"), "cached anchors")
        vectors = float32_array(cache["vectors"], "vectors", (None, None))
        found = {key: str(cache[key]) for key in ("prompts", "encoder", "array")}
    except RecordingError as exc:
        msg = f"{path} contains no readable anchors ({exc}): {_REBUILD}"
        raise AnchorCacheError(msg) from exc
    wanted = {
        "prompts": _digest_prompts(PROMPTS[prompt_set]),
        "encoder": used.weights_hash,
        "array": _digest_array(vectors),
    }
    for key, value in wanted.items():
        if found[key] != value:
            msg = f"{path}: the digest of {key} is {found[key]}, expected {value}: {_REBUILD}"
            raise AnchorCacheError(msg)
    return Anchors(vectors, f"{used.title}@{wanted['array'][:12]}")


def write_anchors(
    prompt_set: str,
    vectors: NDArray[np.float32],
    encoder: str = "minilm",
    *,
    folder: Path = CACHE,
) -> Path:
    """Write anchors `[num_answers, width]` with the digests of prompts, encoder and array."""
    if vectors.shape[0] != len(PROMPTS[prompt_set]) or vectors.dtype != np.float32:
        msg = (
            f"anchors of {prompt_set} have shape {vectors.shape} and type {vectors.dtype}, "
            f"expected {len(PROMPTS[prompt_set])} float32 vectors"
        )
        raise AnchorCacheError(msg)
    used = find_encoder(encoder)
    path = _path(prompt_set, encoder, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        vectors=vectors,
        prompts=_digest_prompts(PROMPTS[prompt_set]),
        encoder=used.weights_hash,
        array=_digest_array(vectors),
        licence=f"{used.licence} (weights of the encoder); vectors computed by this product",
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


def compute_anchors(prompts: Sequence[str], encoder: str = "minilm") -> NDArray[np.float32]:
    """Encode prompts with a frozen text encoder, offline: `[num_prompts, width]` float32, length 1.

    Several sentences of one prompt are averaged.

    Raises:
        MissingExtraError: torch, transformers or a package with weights is not installed.
        AnchorCacheError, TeacherError: The installed weights differ from the published ones, or
            there is no such encoder.
    """
    sentences = [prompt.split(SENTENCES_APART) for prompt in prompts]
    vectors = find_encoder(encoder).encode([text for one in sentences for text in one])
    if len(vectors) == len(sentences):
        return vectors
    ends = np.cumsum([len(one) for one in sentences])[:-1]
    means = np.stack([part.mean(axis=0, dtype=np.float64) for part in np.split(vectors, ends)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    return np.asarray(means, dtype=np.float32)


def readout_of(prompt_set: str) -> str:
    """Return the encoder that makes the default cache of a set: `minilm` or `minilm-cls`."""
    return "minilm-cls" if prompt_set.endswith("-cls") else "minilm"


def main() -> None:
    """Compute and write the missing anchors."""
    wanted = [(prompt_set, "minilm") for prompt_set in PROMPTS]
    others = [encoder for encoder in ENCODERS if not encoder.startswith("minilm")]
    wanted += [(prompt_set, encoder) for encoder in others for prompt_set in COMPARED]
    for prompt_set, encoder in wanted:
        path = _path(prompt_set, encoder, CACHE)
        if path.exists():
            continue
        used = readout_of(prompt_set) if encoder == "minilm" else encoder
        write_anchors(prompt_set, compute_anchors(PROMPTS[prompt_set], used), encoder)
        size = path.stat().st_size
        print(f"{path.relative_to(CACHE)}: {len(PROMPTS[prompt_set])} anchors, {size} bytes")


def _path(prompt_set: str, encoder: str, folder: Path) -> Path:
    return (folder if encoder == "minilm" else folder / encoder) / f"{prompt_set}.npz"


def _digest_prompts(prompts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(prompts).encode("utf-8")).hexdigest()


def _digest_array(vectors: NDArray[np.float32]) -> str:
    content = np.ascontiguousarray(vectors, dtype="<f4")
    return hashlib.sha256(str(content.shape).encode("ascii") + content.tobytes()).hexdigest()


if __name__ == "__main__":
    main()
