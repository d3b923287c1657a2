"""Principal words: the static knowledge of LLaTA, a few hundred directions of the word vectors.

LLaTA (arXiv 2403.07300, section 3.2) fits a PCA on the transposed matrix of word vectors and keeps
the scores. Written out: with W_c the word vectors, each minus its own mean over the width, and the
singular value decomposition W_cᵀ = U S Rᵀ, principal word j is s_j u_j. So principal words are
orthogonal directions of the width, scaled by singular values; there are at most width - 1 of them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.errors import TeacherError
from training.teachers.products import read_arrays, write_arrays

__all__ = ["cached_words", "principal_words", "random_words"]


def principal_words(words: NDArray[np.floating], count: int) -> NDArray[np.float32]:
    """Return the first `count` principal words `[count, width]` of `[vocabulary, width]`.

    The norms descend. Signs are fixed: the entry of largest magnitude is positive, so the same
    word vectors give the same result.

    Raises:
        TeacherError: There are fewer than `count` of them.
    """
    vectors, norms = _directions(words, count)
    return (vectors * norms[:, None]).astype(np.float32)


def random_words(words: NDArray[np.floating], count: int, seed: int) -> NDArray[np.float32]:
    """Return random orthogonal directions with the norms of the principal words: the control.

    Principal words carry language only if they serve better than these.
    """
    _, norms = _directions(words, count)
    width = words.shape[1]
    frame, upper = np.linalg.qr(np.random.default_rng(seed).standard_normal((width, width)))
    frame *= np.sign(np.diag(upper))  # without this, the directions are not uniform
    vectors: NDArray[np.float32] = (frame.T[:count] * norms[:, None]).astype(np.float32)
    return vectors


def cached_words(
    folder: Path,
    words: NDArray[np.floating],
    weights_hash: str,
    count: int,
    *,
    random_seed: int | None = None,
) -> NDArray[np.float32]:
    """Return principal (or random) words from the cache in `folder`; compute them if missing.

    Args:
        folder: Folder of the cache.
        words: Word vectors `[vocabulary, width]`.
        weights_hash: Names the word vectors, `Backbone.weights_hash`.
        count: Number of principal words.
        random_seed: Give `random_words` of this seed instead.

    Raises:
        TeacherError: There are fewer than `count`, or the cached file is damaged.
    """
    request = [weights_hash, list(words.shape), count, random_seed]
    key = hashlib.sha256(json.dumps(request).encode("utf-8")).hexdigest()
    place = folder / f"words-{key[:16]}"
    if not place.exists():
        if random_seed is None:
            vectors = principal_words(words, count)
        else:
            vectors = random_words(words, count, random_seed)
        write_arrays(place, key, {"words": vectors}, {"weights_hash": weights_hash})
    arrays, _ = read_arrays(place, key)
    return np.array(arrays["words"])


def _directions(
    words: NDArray[np.floating], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The unit directions `[count, width]` and their norms, from the small Gram matrix."""
    width = words.shape[1]
    if not 1 <= count < width:
        msg = f"{count} principal words of vectors of width {width}: ask for 1 to {width - 1}"
        raise TeacherError(msg)
    centred = words.astype(np.float64)
    centred -= centred.mean(axis=1, keepdims=True)
    squares, columns = np.linalg.eigh(centred.T @ centred)
    vectors: NDArray[np.float64] = columns.T[::-1][:count].copy()
    peaks = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=1)[:, None], axis=1)
    vectors *= np.sign(peaks)
    return vectors, np.sqrt(np.maximum(squares[::-1][:count], 0))
