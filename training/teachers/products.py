"""Products of a forecasting teacher: what it says about the training windows, cached once.

A teacher writes one folder per configuration, data set, length, horizon and stride:

```
<folder>/<teacher>-<first 16 digits of the key>/
    header.json           the request, what it was made with, digests of the arrays
    forecasts.npy         [n, horizon, channels] float16, standardised units
    features-<stage>.npy  [n, channels, width] float16, optional
```

Window i of the arrays is training window i of `SeriesSet.windows("train", length, horizon, stride)`
or, for a teacher of few windows, the i-th of the first ones. Arrays are memory maps: a student
reads only the rows of a batch. Students read products only, so a second run needs neither the
teacher nor its language model.

Guarantees: a folder is complete or absent, because it is renamed into place; products of another
request, and damaged ones, are refused; nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from training.errors import TeacherError

__all__ = [
    "ProductRequest",
    "Products",
    "find_products",
    "read_arrays",
    "read_products",
    "write_arrays",
    "write_products",
]

HEADER = "header.json"
FORMAT = 1
Value: TypeAlias = "str | int | float | bool | None"


@dataclass(frozen=True, slots=True)
class ProductRequest:
    """Everything that decides what a teacher says.

    Attributes:
        teacher: Short name of the teacher: `llata`, `timellm`, `ensemble`, ...
        config: Flat configuration of the teacher, backbone and seed included.
        data_digest: `SeriesSet.digest` of the data.
        length: Readings in the look-back.
        horizon: Readings in a forecast.
        stride: Distance between two windows.
    """

    teacher: str
    config: Mapping[str, Value]
    data_digest: str
    length: int
    horizon: int
    stride: int = 1

    @property
    def key(self) -> str:
        """SHA-256 of the request; equal requests have equal keys."""
        content = json.dumps(_as_json(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(content.encode("utf-8")).hexdigest()

    def place(self, folder: Path) -> Path:
        """Return the folder of the products of this request below `folder`."""
        return folder / f"{self.teacher}-{self.key[:16]}"


@dataclass(frozen=True, slots=True)
class Products:
    """Products of a teacher, read only.

    Attributes:
        forecasts: `[n, horizon, channels]` float16 in standardised units, a memory map.
        features: Hidden states by stage, `[n, channels, width]` float16, memory maps.
        header: The header: request, backbone, weights_hash, seconds, versions and more.
    """

    forecasts: NDArray[np.float16]
    features: Mapping[str, NDArray[np.float16]] = field(default_factory=dict)
    header: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.forecasts)


def write_products(
    folder: Path,
    request: ProductRequest,
    forecasts: NDArray[np.floating[Any]],
    features: Mapping[str, NDArray[np.floating[Any]]] | None = None,
    **facts: Any,
) -> Path:
    """Write products in one step; products of the same request are replaced.

    Args:
        folder: Folder of all products.
        request: What was asked.
        forecasts: `[n, horizon, channels]` in standardised units.
        features: Hidden states by stage, `[n, channels, width]`.
        facts: More lines of the header, for example backbone, weights_hash, seconds.

    Raises:
        TeacherError: An array has the wrong shape or a number that is not finite in float16.
    """
    arrays = {"forecasts": forecasts}
    arrays |= {f"features-{stage}": values for stage, values in (features or {}).items()}
    packed = {name: _pack(name, values, request) for name, values in arrays.items()}
    for name, values in packed.items():
        if len(values) != len(forecasts):
            msg = f"products of {request.teacher}: {len(values)} {name}, {len(forecasts)} forecasts"
            raise TeacherError(msg)
    header = {"request": _as_json(request), "windows": len(forecasts), **facts}
    return write_arrays(request.place(folder), request.key, packed, header)


def find_products(folder: Path, request: ProductRequest) -> Products | None:
    """Read the products of a request; None if there are none.

    Raises:
        TeacherError: They are damaged or belong to another request.
    """
    return read_products(folder, request) if request.place(folder).exists() else None


def read_products(folder: Path, request: ProductRequest) -> Products:
    """Read the products of a request.

    Raises:
        TeacherError: They are missing or damaged, or belong to another request.
    """
    place = request.place(folder)
    if not place.exists():
        msg = f"{place} is missing: no products of {request.teacher} yet, run the teacher first"
        raise TeacherError(msg)
    arrays, header = read_arrays(place, request.key)
    if "forecasts" not in arrays:
        msg = f"{place} holds no forecasts: delete it and run the teacher again"
        raise TeacherError(msg)
    features = {
        name.removeprefix("features-"): values
        for name, values in arrays.items()
        if name.startswith("features-")
    }
    return Products(arrays["forecasts"], features, header)


def write_arrays(
    place: Path, key: str, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]
) -> Path:
    """Write arrays and a header into the folder `place` in one step; what was there is replaced.

    Args:
        place: Folder to make.
        key: What the arrays depend on, as a digest; `read_arrays` asks for it.
        arrays: Arrays by name; the names become file names.
        facts: More lines of the header.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        for name, values in arrays.items():
            np.save(making / f"{name}.npy", values, allow_pickle=False)
        header = {
            "format": FORMAT,
            "key": key,
            "arrays": {name: _digest(values) for name, values in arrays.items()},
            "versions": {"python": platform.python_version(), "numpy": np.__version__},
            **facts,
        }
        (making / HEADER).write_text(json.dumps(header, indent=1, sort_keys=True) + "\n", "utf-8")
        making.chmod(0o755)
        shutil.rmtree(place, ignore_errors=True)
        making.rename(place)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    return place


def read_arrays(place: Path, key: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read the arrays (memory maps) and the header of a folder of `write_arrays`.

    Raises:
        TeacherError: The folder is missing, damaged or made for another key.
    """
    again = f"delete {place} and run the teacher again"
    try:
        header = dict(json.loads((place / HEADER).read_text(encoding="utf-8")))
        digests, found = dict(header["arrays"]), (header["format"], header["key"])
        arrays = {
            name: np.load(place / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in digests
        }
    except (OSError, EOFError, KeyError, TypeError, ValueError) as exc:
        msg = f"{place} cannot be read ({exc}): {again}"
        raise TeacherError(msg) from exc
    if found != (FORMAT, key):
        msg = f"{place} was made for another request, {header.get('request')}: {again}"
        raise TeacherError(msg)
    for name, values in arrays.items():
        if _digest(values) != digests[name]:
            msg = f"{place}: {name}.npy was changed after it was written: {again}"
            raise TeacherError(msg)
    return arrays, header


def _as_json(request: ProductRequest) -> dict[str, Any]:
    """The request as JSON gives it back."""
    plain = asdict(request) | {"config": dict(request.config)}
    found: dict[str, Any] = json.loads(json.dumps(plain))
    return found


def _pack(
    name: str, values: NDArray[np.floating[Any]], request: ProductRequest
) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        packed = np.asarray(values, dtype=np.float16)
    if packed.ndim != 3 or (name == "forecasts" and packed.shape[1] != request.horizon):
        msg = (
            f"products of {request.teacher}: {name} has shape {packed.shape}, expected "
            f"[n, {request.horizon}, channels] for forecasts, [n, channels, width] for features"
        )
        raise TeacherError(msg)
    if not np.isfinite(packed).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(packed))[0])
        msg = f"products of {request.teacher}: {name}{list(index)} is {packed[index]} in float16"
        raise TeacherError(msg)
    return packed


def _digest(values: NDArray[Any]) -> str:
    content = np.ascontiguousarray(values)
    digest = hashlib.sha256(f"{content.dtype.str}{content.shape}".encode("ascii"))
    digest.update(content.tobytes())
    return digest.hexdigest()
