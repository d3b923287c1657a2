"""The private keys of the centre: Ed25519, one PEM file each (PKCS8), encrypted by a passphrase.

A file is named after its role and the beginning of its key id, `targets-3f0a12bc44d1e5f6.pem`, so
that old and new keys of a role lie side by side. It belongs to its owner only; a file that others
may read is refused, because a key that was readable once is no secret any more.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner

from deploy.rollout.errors import KeyRefused
from ingest.secrettext import error_text
from ingest.statefile import read_regular, replace_file
from models.artifact import sync_directory

__all__ = [
    "Keys",
    "Passphrase",
    "change_passphrase",
    "generate_key",
    "key_path",
    "key_paths",
    "open_key",
    "public_id",
    "read_own_file",
    "write_key",
]

Passphrase = Callable[[Path], bytes | None]
"""Returns the passphrase of a key file; None for a key without one."""

_MOST_BYTES = 10_000
_ENCRYPTED = b"ENCRYPTED PRIVATE KEY"


def generate_key() -> Ed25519PrivateKey:
    """Make a new key in memory."""
    return Ed25519PrivateKey.generate()


def public_id(key: Ed25519PrivateKey) -> str:
    """The key id: a digest of the public key, as the signed metadata name it."""
    return CryptoSigner(key).public_key.keyid


def key_path(folder: Path, role: str, keyid: str) -> Path:
    """The file of a key in a folder."""
    return folder / f"{role}-{keyid[:16]}.pem"


def key_paths(folder: Path, role: str) -> list[Path]:
    """All key files of a role in a folder, sorted by name."""
    if not folder.is_dir():
        return []
    pattern = re.compile(rf"{re.escape(role)}-[0-9a-f]{{16}}\.pem")
    return sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name))


def write_key(folder: Path, role: str, key: Ed25519PrivateKey, passphrase: bytes | None) -> Path:
    """Write a key file with mode 0600 in a folder with mode 0700; it is on disk afterwards.

    Raises:
        OSError: It cannot be written.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = key_path(folder, role, public_id(key))
    _replace(path, key, passphrase)
    return path


def change_passphrase(path: Path, old: Passphrase, new: bytes | None) -> bool:
    """Encrypt a key file anew; nothing happens if the new passphrase opens it already.

    Returns:
        Whether it was changed.

    Raises:
        KeyRefused: It does not open.
        OSError: It cannot be written; it is as it was.
    """
    is_encrypted = _ENCRYPTED in read_own_file(path)
    if is_encrypted is (new is not None):
        with suppress(KeyRefused):
            _open(path, lambda _: new)
            return False
    _replace(path, _open(path, old), new)
    return True


def open_key(path: Path, passphrase: Passphrase) -> CryptoSigner:
    """Open a key file.

    Args:
        path: The file.
        passphrase: Asked only if the key is encrypted.

    Raises:
        KeyRefused: The file is missing, readable by others, damaged, or the passphrase is wrong.
    """
    return CryptoSigner(_open(path, passphrase))


class Keys:
    """The keys of some folders, opened when they are first needed.

    Args:
        places: Folders with key files, or single key files.
        passphrase: Passphrase of the keys.
    """

    def __init__(self, places: Sequence[Path], passphrase: Passphrase) -> None:
        self._places = tuple(places)
        self._passphrase = passphrase
        self._open: dict[str, CryptoSigner] = {}

    def signers(self, role: str, keyids: Sequence[str]) -> list[CryptoSigner]:
        """The signers of a role whose key files are here, in the order of the key ids.

        Raises:
            KeyRefused: A key file is here but does not open, or holds another key.
        """
        found = []
        for keyid in keyids:
            if keyid not in self._open:
                path = self._find(role, keyid)
                if path is None:
                    continue
                signer = open_key(path, self._passphrase)
                if signer.public_key.keyid != keyid:
                    msg = f"{path} does not hold the key that its name says: put the right one back"
                    raise KeyRefused(msg)
                self._open[keyid] = signer
            found.append(self._open[keyid])
        return found

    def _find(self, role: str, keyid: str) -> Path | None:
        name = key_path(Path(), role, keyid).name
        for place in self._places:
            path = place / name if place.is_dir() else place
            if path.name == name and os.path.lexists(path):
                return path
        return None


def read_own_file(path: Path) -> bytes:
    """Read a small file with a secret that only its owner may read.

    Raises:
        KeyRefused: It is missing, too large, or readable by others.
    """
    try:
        pem = read_regular(path, _MOST_BYTES)
        status = path.stat()
    except OSError as exc:
        msg = f"{path} cannot be read: {error_text(exc)}"
        raise KeyRefused(msg) from exc
    if status.st_mode & 0o077:
        msg = (
            f"other users may read {path} (mode {status.st_mode & 0o777:04o}): run "
            f"`chmod 600 {path}`; if it is a key that others could read, replace it "
            "(`kpstream centre rotate`)"
        )
        raise KeyRefused(msg)
    return pem


def _open(path: Path, passphrase: Passphrase) -> Ed25519PrivateKey:
    pem = read_own_file(path)
    word: bytes | None = None
    if _ENCRYPTED in pem:
        word = passphrase(path)
        if not word:
            msg = (
                f"{path} is encrypted: give its passphrase (KPSTREAM_CENTRE_PASSPHRASE_FILE, "
                "KPSTREAM_CENTRE_PASSPHRASE_COMMAND, or at the prompt)"
            )
            raise KeyRefused(msg)
    try:
        key = load_pem_private_key(pem, word)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        what = "the passphrase is wrong, or the file is damaged" if word else error_text(exc)
        msg = f"{path} does not open: {what}"
        raise KeyRefused(msg) from None  # the text of the cause may come from the key
    if not isinstance(key, Ed25519PrivateKey):
        msg = f"{path} holds no Ed25519 key: use a key that `kpstream centre` has made"
        raise KeyRefused(msg)
    return key


def _replace(path: Path, key: Ed25519PrivateKey, passphrase: bytes | None) -> None:
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    replace_file(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    sync_directory(path.parent)
