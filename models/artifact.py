"""The artifact: a directory with `model.onnx` and `manifest.json`, read and written with checks.

An artifact that `read_artifact` returns has passed every check that needs no inference: sizes,
digests, manifest, opset, operators, external data, names and shapes of input and output. Each file
is read once, so the checked bytes are the bytes that are scored.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.errors import (
    ArtifactMissing,
    DigestMismatch,
    ShapeMismatch,
    TooLarge,
    UnexpectedFile,
)
from models.manifest import (
    MAX_ONNX_BYTES,
    Draft,
    Manifest,
    OnnxFile,
    decode_manifest,
    encode_manifest,
)
from models.onnxadvice import advice
from models.onnxfile import GraphSummary, TensorShape, inspect_onnx
from models.tasks.registry import find_task

__all__ = [
    "MANIFEST_FILE",
    "MAX_MANIFEST_BYTES",
    "ONNX_FILE",
    "Artifact",
    "open_plain_file",
    "read_artifact",
    "read_plain_file",
    "shown",
    "sync_directory",
    "tensor_faults",
    "write_artifact",
    "write_durably",
]

ONNX_FILE = "model.onnx"
MANIFEST_FILE = "manifest.json"
MAX_MANIFEST_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Artifact:
    """A student as read from disk, with all checks passed.

    Attributes:
        manifest: The decoded manifest.
        manifest_bytes: The bytes of manifest.json.
        onnx_bytes: The bytes of model.onnx; size and SHA-256 are those in the manifest.
        path: The directory.
        digest: SHA-256 (hex) of the bytes of manifest.json, the identity of the artifact.
    """

    manifest: Manifest
    manifest_bytes: bytes
    onnx_bytes: bytes
    path: Path
    digest: str


def read_artifact(path: str | os.PathLike[str]) -> Artifact:
    """Read and check an artifact directory.

    Raises:
        ArtifactError: The artifact is invalid; the subclass gives the kind of fault, see
            `models.errors`.
    """
    directory = Path(path)
    _check_directory(directory)
    manifest_bytes = read_plain_file(directory / MANIFEST_FILE, MAX_MANIFEST_BYTES)
    manifest = decode_manifest(manifest_bytes)
    onnx_bytes = read_plain_file(directory / ONNX_FILE, MAX_ONNX_BYTES)
    _check_digest(manifest.onnx, onnx_bytes)
    _check_graph(manifest, inspect_onnx(onnx_bytes))
    digest = hashlib.sha256(manifest_bytes).hexdigest()
    return Artifact(manifest, manifest_bytes, onnx_bytes, directory, digest)


def write_artifact(path: str | os.PathLike[str], draft: Draft, onnx_bytes: bytes) -> Artifact:
    """Write an artifact directory and read it back with all checks.

    Size, SHA-256 and opset of the graph are computed here. An artifact in the same directory is
    replaced file by file: a reader in between finds a digest mismatch, never a mixture. Where
    others read at the same time, use `models.registry.Registry.publish`.

    Raises:
        ArtifactError: The graph is refused or does not match the draft; nothing is written.
        OSError: A file could not be written.
    """
    if len(onnx_bytes) > MAX_ONNX_BYTES:
        raise _too_large(ONNX_FILE, len(onnx_bytes), MAX_ONNX_BYTES)
    summary = inspect_onnx(onnx_bytes)
    onnx = OnnxFile(
        sha256=hashlib.sha256(onnx_bytes).hexdigest(),
        size_bytes=len(onnx_bytes),
        opset=summary.opset,
    )
    content = {name: getattr(draft, name) for name in Draft.model_fields}
    manifest = Manifest(**content, onnx=onnx)
    _check_graph(manifest, summary)
    directory = Path(path)
    directory.mkdir(parents=True, exist_ok=True)
    write_durably(directory / ONNX_FILE, onnx_bytes)
    write_durably(directory / MANIFEST_FILE, encode_manifest(manifest))
    return read_artifact(directory)


def write_durably(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Replace a file atomically; content and name are on disk when this returns.

    Args:
        path: The file.
        data: Its content, also in parts; if they end with an error, the file is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = open_plain_file(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for part in (data,) if isinstance(data, bytes) else data:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)  # a full disk needs the room
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make renames and new names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_directory(directory: Path) -> None:
    try:
        mode = directory.lstat().st_mode
        if stat.S_ISLNK(mode):
            msg = f"{shown(directory)} is a symbolic link: pass the real directory"
            raise UnexpectedFile(msg)
        names = sorted(entry.name for entry in directory.iterdir())
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "the path is invalid"
        msg = f"no artifact directory at {shown(directory)}: {why}"
        raise ArtifactMissing(msg) from exc
    odd = [name for name in names if name not in (ONNX_FILE, MANIFEST_FILE)]
    if odd:
        msg = (
            f"{shown(directory)} contains {odd[0]!a}: remove it, "
            f"an artifact has only {ONNX_FILE} and {MANIFEST_FILE}"
        )
        raise UnexpectedFile(msg)


def open_plain_file(path: Path, flags: int) -> int:
    """Open a regular file by its own name and return the descriptor; never waits.

    A symbolic link is not followed, and a named pipe, which would wait for its other end, or a
    device is refused.

    Args:
        path: The file.
        flags: Flags of `os.open`, such as `os.O_RDONLY`; a new file gets the mode 0666 less umask.

    Raises:
        UnexpectedFile: The path is something else than a regular file.
        ArtifactMissing: The file cannot be opened.
    """
    try:
        guards = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags | guards, 0o666)
    except OSError as exc:
        if path.is_symlink():
            msg = f"{shown(path)} is a symbolic link: replace it by the file itself"
            raise UnexpectedFile(msg) from exc
        if _is_special(path):
            msg = f"{shown(path)} is not a plain file"
            raise UnexpectedFile(msg) from exc
        msg = f"{shown(path)} cannot be opened: {exc.strerror}"
        raise ArtifactMissing(msg) from exc
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        msg = f"{shown(path)} is not a plain file"
        raise UnexpectedFile(msg)
    return descriptor


def read_plain_file(path: Path, limit: int) -> bytes:
    """Read a regular file, see `open_plain_file`.

    Raises:
        UnexpectedFile: The path is something else than a regular file.
        ArtifactMissing: The file cannot be opened.
        TooLarge: It has more than `limit` bytes.
    """
    with os.fdopen(open_plain_file(path, os.O_RDONLY), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise _too_large(shown(path), size, limit)
        data = file.read(limit + 1)
    if len(data) > limit:
        raise _too_large(shown(path), len(data), limit)
    return data


def shown(path: str | os.PathLike[str]) -> str:
    r"""Return a path for a message, with escapes for everything that is not printable ASCII.

    >>> shown("models/a\nb"), shown("models/plain")
    ('models/a\\nb', 'models/plain')
    """
    return ascii(os.fspath(path))[1:-1]


def _is_special(path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode)


def _too_large(name: str, size: int, limit: int) -> TooLarge:
    return TooLarge(f"{name} has {size} bytes, the limit is {limit}: export a smaller student")


def _check_digest(promised: OnnxFile, onnx_bytes: bytes) -> None:
    if len(onnx_bytes) != promised.size_bytes:
        msg = (
            f"{ONNX_FILE} has {len(onnx_bytes)} bytes, the manifest says {promised.size_bytes}: "
            "the copy is incomplete or belongs to another manifest, copy it again"
        )
        raise DigestMismatch(msg)
    found = hashlib.sha256(onnx_bytes).hexdigest()
    if found != promised.sha256:
        msg = (
            f"{ONNX_FILE} has SHA-256 {found}, the manifest says {promised.sha256}: "
            "the file is damaged or belongs to another manifest, copy it again"
        )
        raise DigestMismatch(msg)


def _check_graph(manifest: Manifest, graph: GraphSummary) -> None:
    if graph.opset != manifest.onnx.opset:
        msg = f"onnx.opset is {manifest.onnx.opset} in the manifest, {graph.opset} in the graph"
        raise ShapeMismatch(msg)
    shape = (manifest.window.length, len(manifest.channels))
    outputs = find_task(manifest.task).answer.outputs(manifest.decoding)
    faults = [
        *tensor_faults("input", graph.inputs, {manifest.input: shape}),
        *tensor_faults("output", graph.outputs, outputs),
    ]
    if faults:
        steps = dict.fromkeys(advice(kind, graph.producer, [*outputs]) for kind, _ in faults)
        what = "; ".join(text for _, text in faults)
        msg = f"{what}: {'; '.join(steps)}"
        raise ShapeMismatch(msg)


def tensor_faults(
    side: str, found: Sequence[TensorShape], wanted: Mapping[str, tuple[int, ...]]
) -> list[tuple[str, str]]:
    """How the inputs or outputs of a graph differ from what is wanted.

    Args:
        side: `input` or `output`.
        found: The graph's tensors.
        wanted: Names to dimensions after `batch`.

    Returns:
        Kind (see `models.onnxadvice`) and text of each fault.
    """
    by_name = {tensor.name: tensor for tensor in found}
    if len(found) != len(wanted) or set(by_name) != set(wanted):
        names = [tensor.name for tensor in found]
        needs = " and ".join(_float32(side, *item) for item in wanted.items())
        return [("names", f"the graph's {side}s are {names}, the manifest needs {needs}")]
    return [
        fault
        for name, dims in wanted.items()
        for fault in _tensor_fault(side, by_name[name], name, [*dims])
    ]


def _float32(side: str, name: str, dims: Sequence[int]) -> str:
    return f"one float32 {side} {name!r} of shape {['batch', *dims]}"


def _tensor_fault(
    side: str, tensor: TensorShape, name: str, dims: list[int]
) -> Iterator[tuple[str, str]]:
    wanted = _float32(side, name, dims)
    fits = len(tensor.dims) == len(dims) + 1 and list(tensor.dims[1:]) == dims
    if tensor.is_float32 and fits and not isinstance(tensor.dims[0], int):
        return
    is_type = "float32" if tensor.is_float32 else "not float32"
    text = f"{side} {name!r} is {is_type} of shape {list(tensor.dims)}, the manifest needs {wanted}"
    if not tensor.is_float32:
        yield "type", text
    elif fits:
        yield "batch", text
    else:
        is_flat = side == "input" and len(tensor.dims) == 2
        yield "flat" if is_flat else "shape", text
