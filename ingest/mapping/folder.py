"""The folder of mapping files: which of them are in force, and what is wrong with the others.

Files are read again while the process runs: after SIGHUP, or when one of them has changed and then
stayed the same from one look to the next. The rules:

1. A broken file never replaces a good one. Its last good version stays in force, also after a
   restart, because the folder `kept` in the state folder has a copy of it.
2. A file that claims a topic of another one, or of our own, is broken (`ingest.decoders`).
3. A broken file without a good version is in force in no part. At the start of a process it is
   refused (`MappingInvalid`): while the process is down, the broker keeps the messages.
4. A file that is removed is no longer in force.
5. A folder that cannot be read changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ingest.decoders import Claim, claim_faults
from ingest.errors import MappingInvalid
from ingest.mapping.compiled import CompiledMapping, compile_mapping
from ingest.mapping.file import MappingFile, parse_mapping
from ingest.mapping.patterns import Template, parse_pattern, parse_template
from ingest.statefile import replace_file
from ingest.topicfilters import TopicSet

__all__ = ["InForce", "MappingFolder", "claim_of", "read_folder"]

log = logging.getLogger(__name__)

_MOST_FILES = 256
_MOST_BYTES = 256 * 1024
_Signature = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class InForce:
    """One mapping in force.

    Attributes:
        file: The file as it was read.
        compiled: The mapping at work.
        text: The text of the file.
        is_former: The file has changed and is broken now, so this is its last good version.
    """

    file: MappingFile
    compiled: CompiledMapping
    text: str
    is_former: bool = False

    @property
    def name(self) -> str:
        """Name of the mapping: that of its file without `.toml`."""
        return self.file.name


class MappingFolder:
    """The mappings of one process.

    Attributes:
        path: The folder.
        in_force: Mappings by name.
        faults: What is wrong, by file name; a fault of the folder itself has the name "".
    """

    def __init__(
        self,
        path: Path,
        kept: Path,
        reserved: Sequence[Claim],
        *,
        is_shared: bool = False,
    ) -> None:
        """Read the folder.

        Args:
            path: The folder.
            kept: Folder of copies of the good versions; this process's own.
            reserved: Claims that come first (`ingest.decoders.claim_faults`).
            is_shared: Whether several bridges share the messages, so that no bridge sees all
                messages of a device and channels that come apart cannot be joined.

        Raises:
            MappingInvalid: The folder cannot be read, or a file is broken that has no good version;
                with all faults.
        """
        self.path = path
        self.in_force: dict[str, InForce] = {}
        self.faults: dict[str, str] = {}
        self._kept = kept
        self._reserved = tuple(reserved)
        self._is_shared = is_shared
        self._read: _Signature | None = None
        self._seen: _Signature | None = None
        if path.resolve() == kept.resolve():
            msg = f"{path} is for copies: set KPSTREAM_INGEST_MAPPINGS to another folder"
            raise MappingInvalid(msg)
        try:
            signature = _signature(path)
        except OSError as exc:
            raise MappingInvalid(_unreadable(path, exc)) from exc
        self._restore(signature)
        self._take(signature)
        hopeless = [text for name, text in self.faults.items() if name not in self.in_force]
        if hopeless:
            raise MappingInvalid("\n".join(hopeless))

    @property
    def filters(self) -> list[str]:
        """The MQTT filters of all mappings in force."""
        found = [each for one in self.in_force.values() for each in one.compiled.filters]
        return list(dict.fromkeys(found))

    def look(self) -> bool:
        """Read the files again if they have changed and are at rest; call it now and then.

        Returns:
            Whether the mappings in force have changed.
        """
        try:
            signature = _signature(self.path)
        except OSError as exc:
            self._note_folder(exc)
            return False
        is_at_rest, self._seen = signature == self._seen, signature
        if signature == self._read and "" not in self.faults:
            return False
        return self._take(signature) if is_at_rest else False

    def reread(self) -> bool:
        """Read the files again now; returns whether the mappings in force have changed."""
        try:
            return self._take(_signature(self.path))
        except OSError as exc:
            self._note_folder(exc)
            return False

    def _note_folder(self, exc: OSError) -> None:
        text = _unreadable(self.path, exc)
        if self.faults.get("") != text:
            log.error("%s; the mappings in force stay", text)
            self.faults[""] = text

    def _restore(self, signature: _Signature) -> None:
        """Begin with the good versions of an earlier process; the files replace them at once."""
        names = {name for name, *_ in signature}
        with suppress(OSError):
            for path in sorted(self._kept.glob("*.toml")):
                if path.stem in names:
                    found, _ = _parsed(path)
                    if found is not None:
                        self.in_force[found.name] = found
                else:
                    path.unlink(missing_ok=True)

    def _take(self, signature: _Signature) -> bool:
        """Read every file, bring the good ones into force, and note the faults."""
        self._read = signature
        before = {name: one.file.digest for name, one in self.in_force.items()}
        names = [name for name, *_ in signature]
        current = {name: one for name, one in self.in_force.items() if name in names}
        faults: dict[str, str] = {}
        fresh: dict[str, InForce] = {}
        for name in names[:_MOST_FILES]:
            found, fault = _parsed(self.path / f"{name}.toml")
            if found is not None:
                fresh[name] = found
            elif fault is not None:
                faults[name] = fault
        # Together if they agree, because a topic may move from one file to another; else in order.
        together = list({**current, **fresh}.values())
        is_agreed = not any(self._fault_of(one, together) for one in together)
        for name, found in fresh.items():
            fault = None if is_agreed else self._fault_of(found, list(current.values()))
            if fault is None:
                current[name] = found
            else:
                faults[name] = fault
        if len(names) > _MOST_FILES:
            faults[""] = f"{self.path}: more than {_MOST_FILES} files; the others are not read"
        self._note(current, faults)
        return before != {name: one.file.digest for name, one in self.in_force.items()}

    def _fault_of(self, found: InForce, others: Sequence[InForce]) -> str | None:
        """Return why a valid file cannot be in force beside the others; None: it can."""
        claim = claim_of(found.file)
        faults = claim_faults([claim], self._reserved)
        for other in others:
            if other.name != found.name:
                faults += claim_faults([claim, claim_of(other.file)], self._reserved)
        if found.compiled.join is not None and self._is_shared:
            faults.append(_share_fault(found.name))
        return "\n".join(dict.fromkeys(faults)) or None

    def _note(self, current: Mapping[str, InForce], faults: dict[str, str]) -> None:
        """Bring mappings into force, keep their good versions, and log what is new."""
        for name, fault in faults.items():
            if self.faults.get(name) != fault:
                stays = "; its last good version stays in force" if name in current else ""
                log.error("%s%s", fault, stays)
        for name in self.faults.keys() - faults.keys():
            if name in current:
                log.warning("the mapping %s.toml is mended and in force", name)
        for name in self.in_force.keys() - current.keys():
            log.warning("the mapping %s.toml was removed and is no longer in force", name)
            self._forget(name)
        self.faults = faults
        self.in_force = {
            name: InForce(one.file, one.compiled, one.text, name in faults)
            for name, one in sorted(current.items())
        }
        for name, one in self.in_force.items():
            if name not in faults:
                self._keep(name, one.text)

    def _keep(self, name: str, text: str) -> None:
        path = self._kept / f"{name}.toml"
        with suppress(OSError):
            if path.read_bytes() == text.encode():
                return
        try:
            replace_file(path, text.encode())
        except OSError as exc:
            log.warning("%s cannot be written (%s): a restart needs a good %s", path, exc, name)

    def _forget(self, name: str) -> None:
        with suppress(OSError):
            (self._kept / f"{name}.toml").unlink(missing_ok=True)


def read_folder(
    path: Path, reserved: Sequence[Claim] = (), *, is_shared: bool = False
) -> tuple[list[MappingFile], list[str]]:
    """Read all files of a folder without bringing them into force.

    Args:
        path: The folder.
        reserved: Claims that come first.
        is_shared: Whether several bridges share the messages.

    Returns:
        The valid files, and every fault that would keep one of them out of force.

    Raises:
        MappingInvalid: The folder cannot be read.
    """
    try:
        names = [name for name, *_ in _signature(path)]
    except OSError as exc:
        raise MappingInvalid(_unreadable(path, exc)) from exc
    found = [_parsed(path / f"{name}.toml") for name in names[:_MOST_FILES]]
    files = [one.file for one, _ in found if one is not None]
    faults = [fault for _, fault in found if fault is not None]
    faults += claim_faults([claim_of(each) for each in files], reserved)
    faults += [_share_fault(each.name) for each in files if is_shared and each.table.join]
    return files, faults


def claim_of(file: MappingFile) -> Claim:
    """Return the topics that a mapping claims, without those of devices that it leaves out."""
    table = file.table
    device = table.device if isinstance(table.device, str) else ""
    place = parse_template(device) if device else Template("", ())
    patterns = () if table.devices == ["*"] else tuple(table.devices)
    topics = []
    for text in table.topic:
        level, levels = 0, text.split("/")
        if patterns and len(place.names) == 1 and place.text == f"{{{place.names[0]}}}":
            level = levels.index(place.text) if place.text in levels else -1
        fits = patterns if patterns and level >= 0 and place.text in levels else ()
        topics.append(TopicSet(parse_pattern(text).filter, max(level, 0), fits))
    return Claim(f"{file.name}.toml", topics)


def _parsed(path: Path) -> tuple[InForce | None, str | None]:
    """Return a mapping and None, or None and what is wrong with its file."""
    try:
        if not path.is_file():  # a named pipe would make us wait for ever
            return None, f"the mapping {path} is not a file: move it away"
        with path.open("rb") as opened:
            raw = opened.read(_MOST_BYTES + 1)
        if len(raw) > _MOST_BYTES:
            return None, f"the mapping {path} is larger than {_MOST_BYTES // 1024} KiB"
        text = raw.decode()
        file = parse_mapping(text, path.stem, str(path))
        return InForce(file, compile_mapping(file), text), None
    except MappingInvalid as exc:
        return None, str(exc)
    except UnicodeDecodeError:
        return None, f"the mapping {path} is not UTF-8: save it as UTF-8 text"
    except OSError as exc:
        return None, f"cannot read the mapping {path} ({exc.strerror})"


def _signature(path: Path) -> _Signature:
    """Return name, time of change, size and number of every file, in the order of the names."""
    found = []
    for each in path.iterdir():
        if each.suffix == ".toml" and not each.name.startswith("."):
            with suppress(FileNotFoundError):  # it is being replaced
                state = each.stat()
                found.append((each.stem, state.st_mtime_ns, state.st_size, state.st_ino))
    return tuple(sorted(found))


def _share_fault(name: str) -> str:
    return (
        f"{name}.toml joins channels, but with KPSTREAM_INGEST_MQTT_SHARED_GROUP no bridge sees "
        "all messages of a device: unset the group, or remove [join]"
    )


def _unreadable(path: Path, exc: OSError) -> str:
    return (
        f"cannot read the folder of mappings {path} ({exc.strerror}); "
        "check KPSTREAM_INGEST_MAPPINGS"
    )
