"""Files of a data set, however they are packed: loose in a folder, in a zip or tar, or deeper.

Every reader of recorded data opens its files here, so the same rules hold for all:

1. A file counts by its name, in any folder and any case of letters. The beginning of an archive,
   not its name, says what it is.
2. Two files of one name are refused, because nobody can say which of them was meant.
3. Archives inside (a zip in a zip, an archive in a folder) are opened only if a file is missing
   without them. So the unpacked files of a folder count, not the archive beside them.
4. What is damaged, cut, encrypted, or compressed in a way that Python cannot read is a
   `RecordingError` that says what to do.
"""

from __future__ import annotations

import io
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from ingest.errors import RecordingError
from ingest.secrettext import error_text

__all__ = ["read_matching_files", "read_named_files"]

_Entry = tuple[str, Callable[[], IO[bytes]]]
"""Path of a file inside a folder or archive, and how to open it."""

_DEEPEST = 2  # NASA and UCI pack their zips into a zip
_LARGEST_BYTES = 4 << 30
_ARCHIVE = re.compile(r"\.(zip|tar|tgz|tbz2?|txz|tar\.(gz|bz2|xz))$", re.IGNORECASE)
_UNKNOWN_ARCHIVE = re.compile(r"\.(7z|rar|gz|bz2|xz|zst|lz4|z)$", re.IGNORECASE)
_METHODS = {9: "Deflate64", 93: "Zstandard", 95: "XZ", 98: "PPMd"}
_TAR_BLOCK = 512
_UNPACK = "unpack it with another program and pass the folder"
_DAMAGE = (
    EOFError,
    ValueError,
    RuntimeError,
    LookupError,
    ArithmeticError,
    MemoryError,
    struct.error,
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
)
"""What the libraries raise, besides `OSError`, where bytes of an archive are wrong."""


def read_named_files(
    path: Path, names: Iterable[str], what: str, *, any_case: bool = True
) -> dict[str, bytes]:
    """Return the content of files by their names.

    Args:
        path: Folder or archive that holds the files, or the only file itself.
        names: Names without folders; each file must be there, once.
        what: The data set and its usual packing, for messages.
        any_case: Whether `train.TXT` counts as `train.txt`.

    Raises:
        RecordingError: A file is missing, is there twice, or cannot be read.
    """
    wanted = {name.lower() if any_case else name: name for name in names}
    pattern = f"({'|'.join(re.escape(name) for name in wanted)})"
    search = _Search(pattern, any_case, enough=len(wanted))
    search.run(path, what)
    missing = [name for key, name in wanted.items() if key not in search.found]
    if missing:
        raise RecordingError(search.nothing(path, ", ".join(missing), what))
    return {name: search.found[key].content for key, name in wanted.items()}


def read_matching_files(path: Path, pattern: str, example: str, what: str) -> dict[str, bytes]:
    """Return the content of all files whose path ends as a pattern says, ordered by their keys.

    Args:
        path: Folder or archive that holds the files, or the only file itself.
        pattern: Regular expression of the end of a path, from the beginning of a name on. Its only
            group is the key; two files with one key, in any case of letters, are the same file.
        example: A name that matches, for messages.
        what: The data set and its usual packing, for messages.

    Raises:
        RecordingError: No file matches, two have one key, or one cannot be read.
    """
    search = _Search(pattern, any_case=True, enough=1)
    search.run(path, what)
    if not search.found:
        raise RecordingError(search.nothing(path, f"file such as {example}", what))
    return {file.key: file.content for _, file in sorted(search.found.items())}


@dataclass(frozen=True, slots=True)
class _File:
    key: str
    place: str
    content: bytes


@dataclass(slots=True)
class _Search:
    """One search through a folder or archive.

    Attributes:
        pattern: End of the path of a wanted file; its group is the key.
        any_case: Whether upper and lower case are the same.
        enough: Number of files for which archives inside stay closed.
        found: Files by their keys, in lower case if `any_case`.
        unopened: Archives of kinds that cannot be opened.
    """

    pattern: str
    any_case: bool
    enough: int
    found: dict[str, _File] = field(default_factory=dict)
    unopened: list[str] = field(default_factory=list)

    def run(self, path: Path, what: str) -> None:
        """Search a folder, an archive, or a file that is the wanted one."""
        if path.is_dir():
            self._take(_folder_entries(path), str(path), depth=0)
        elif path.is_file():
            if self._match(path.name):
                self._take([(path.name, lambda: path.open("rb"))], str(path.parent), depth=0)
            else:
                self._open(lambda: path.open("rb"), str(path), depth=0, what=what)
        else:
            problem = "is neither a file nor a folder" if path.exists() else "does not exist"
            msg = f"{path} {problem}: use the path of {what}"
            raise RecordingError(msg)

    def nothing(self, path: Path, missing: str, what: str) -> str:
        """Say what is not there, and which archives could not be searched for it."""
        if self.unopened:
            return (
                f"{path} contains no {missing}, and {self.unopened[0]} cannot be opened: use the "
                f"path of {what}, or {_UNPACK}"
            )
        return f"{path} contains no {missing}: use the path of {what}"

    def _match(self, name: str) -> re.Match[str] | None:
        flags = re.IGNORECASE if self.any_case else 0
        return re.search(f"(?:^|/){self.pattern}$", name, flags)

    def _take(self, entries: Iterable[_Entry], place: str, depth: int) -> None:
        """Read the files that match; if they are not enough, open the archives beside them."""
        packed: list[_Entry] = []
        for name, open_file in entries:
            if match := self._match(name):
                self._add(match[1], f"{place}/{name}", open_file)
            elif _ARCHIVE.search(name) and depth < _DEEPEST:
                packed.append((name, open_file))
            elif _UNKNOWN_ARCHIVE.search(name) or _ARCHIVE.search(name):
                self.unopened.append(f"{place}/{name}")
        if len(self.found) < self.enough:
            for name, open_file in packed:
                self._open(open_file, f"{place}/{name}", depth + 1)

    def _add(self, key: str, place: str, open_file: Callable[[], IO[bytes]]) -> None:
        same = key.lower() if self.any_case else key
        if same in self.found:
            msg = (
                f"two files are named {PurePosixPath(place).name}: {self.found[same].place} and "
                f"{place}: remove one, or pass the path of the folder or archive with the right one"
            )
            raise RecordingError(msg)
        with _refusing(place), open_file() as file:
            content = file.read(_LARGEST_BYTES + 1)
        if len(content) > _LARGEST_BYTES:
            msg = f"{place} is larger than 4 GiB, so it is another file: remove it"
            raise RecordingError(msg)
        self.found[same] = _File(key, place, content)

    def _open(
        self, open_file: Callable[[], IO[bytes]], place: str, depth: int, what: str = ""
    ) -> None:
        with _refusing(place), open_file() as file:
            begin = file.read(_TAR_BLOCK)
            file.seek(0)
            if begin.startswith(b"PK"):
                with zipfile.ZipFile(file) as archive:
                    self._take(_zip_entries(archive, place), place, depth)
            elif _begins_tar(begin):
                with tarfile.open(fileobj=file) as tar:
                    self._take(_tar_entries(tar), place, depth)
            elif depth:
                self.unopened.append(place)
            elif not begin:
                msg = f"{place} is empty: copy or download it again"
                raise RecordingError(msg)
            else:
                is_known = any(begin.startswith(magic) for magic in (b"7z\xbc\xaf", b"Rar!"))
                advice = _UNPACK if is_known else f"use the path of {what}"
                msg = f"{place} is neither a zip nor a tar: {advice}"
                raise RecordingError(msg)


def _begins_tar(begin: bytes) -> bool:
    packed = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00")
    return begin[257:262] == b"ustar" or begin.startswith(packed)


def _folder_entries(folder: Path) -> Iterator[_Entry]:
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.is_file() and not _is_resource_fork(name):
            yield name, lambda file=file: file.open("rb")  # type: ignore[misc]


def _zip_entries(archive: zipfile.ZipFile, place: str) -> Iterator[_Entry]:
    for member in archive.infolist():
        name = member.filename.replace("\\", "/")
        if member.is_dir() or _is_resource_fork(name):
            continue
        if not _is_encrypted(member):
            with suppress(NotImplementedError):  # told only about a file that is wanted
                archive.open(member).close()  # compares the name with the one beside the content
        yield (
            name,
            lambda member=member, name=name: _open_member(  # type: ignore[misc]
                archive, member, f"{place}/{name}"
            ),
        )


def _open_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, place: str) -> IO[bytes]:
    if _is_encrypted(member):
        msg = f"{place} is encrypted: unpack it with its password and pass the folder"
        raise RecordingError(msg)
    try:
        return io.BytesIO(archive.read(member))
    except NotImplementedError as exc:
        method = _METHODS.get(member.compress_type, f"method {member.compress_type}")
        msg = f"{place} is compressed in a way that Python cannot read ({method}): {_UNPACK}"
        raise RecordingError(msg) from exc


def _is_encrypted(member: zipfile.ZipInfo) -> bool:
    return bool(member.flag_bits & 0x1)


def _tar_entries(archive: tarfile.TarFile) -> Iterator[_Entry]:
    for member in archive:
        if member.isfile() and not _is_resource_fork(member.name):
            yield member.name, lambda member=member: archive.extractfile(member)  # type: ignore
    # `tarfile` takes a damaged header for the end, and leaves the checksum behind the end unread.
    file = archive.fileobj
    if file is not None:
        file.seek(archive.offset)
        if file.read(_TAR_BLOCK) != bytes(_TAR_BLOCK):
            msg = f"no file and no end of the tar follows at byte {archive.offset}"
            raise EOFError(msg)
        while file.read(1 << 16):
            pass


def _is_resource_fork(name: str) -> bool:
    """Whether macOS made this file beside another one."""
    place = PurePosixPath(name)
    return "__MACOSX" in place.parts or place.name.startswith("._")


@contextmanager
def _refusing(place: str) -> Iterator[None]:
    """Turn what goes wrong while a file or archive is read into a `RecordingError`."""
    try:
        yield
    except OSError as exc:
        if exc.errno is not None:
            msg = f"cannot read {place}: {exc.strerror}: mend that and try again"
            raise RecordingError(msg) from exc
        raise RecordingError(_damaged(place, exc)) from exc
    except _DAMAGE as exc:
        raise RecordingError(_damaged(place, exc)) from exc


def _damaged(place: str, exc: Exception) -> str:
    return f"{place} is damaged or incomplete ({error_text(exc)}): copy or download it again"
