"""Reader of GGUF files: the fields, and the tensors dequantised to float32.

The header is parsed here, because `gguf.GGUFReader` needs eight seconds for the 100 000 words and
merges of a tokenizer; `gguf.dequantize` turns the packed numbers into float32. Format:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, version 3, little endian.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.errors import MissingExtraError, TeacherError

__all__ = ["GgufFile", "open_gguf"]

_NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q"} | {
    11: "<q",
    12: "<d",
}
_STRING, _ARRAY = 8, 9
_ALIGNMENT = 32  # bytes, unless the field general.alignment says otherwise


@dataclass(frozen=True)
class GgufFile:
    """An open GGUF file.

    Attributes:
        fields: Values of the header by key: numbers, texts and lists of them.
        read: Returns the named tensors as float32 arrays, rows first; unknown names are left out.
    """

    fields: dict[str, Any]
    read: Callable[[Collection[str]], dict[str, NDArray[np.float32]]]


@contextmanager
def open_gguf(path: Path) -> Iterator[GgufFile]:
    """Open a GGUF file; the arrays that `read` returns stay valid after it is closed.

    Raises:
        TeacherError: The file is no GGUF file of version 3.
        MissingExtraError: The package `gguf` is not installed.
    """
    try:
        import gguf
    except ImportError as exc:
        module = "gguf"
        raise MissingExtraError(module) from exc
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content[:4] != b"GGUF" or struct.unpack_from("<I", content, 4)[0] != 3:
            msg = f"{path} is no GGUF file of version 3"
            raise TeacherError(msg)
        header = _Header(content)
        tensor_count, field_count = header.number(10), header.number(10)
        fields = {header.text(): header.value(header.number(4)) for _ in range(field_count)}
        places = {}
        for _ in range(tensor_count):
            name = header.text()
            shape = [header.number(10) for _ in range(header.number(4))][::-1]
            places[name] = (shape, header.number(4), header.number(10))
        alignment = int(fields.get("general.alignment", _ALIGNMENT))
        start = -(-header.at // alignment) * alignment

        def read(names: Collection[str]) -> dict[str, NDArray[np.float32]]:
            found = {}
            for name in places.keys() & set(names):
                shape, kind, offset = places[name]
                packing = gguf.GGMLQuantizationType(kind)
                packed = gguf.quants.quant_shape_to_byte_shape(shape, packing)
                size = int(np.prod(packed))
                raw = np.frombuffer(content[start + offset : start + offset + size], np.uint8)
                found[name] = np.array(gguf.dequantize(raw.reshape(packed), packing), np.float32)
            return found

        yield GgufFile(fields, read)


class _Header:
    """A place in the header that moves on with each value."""

    def __init__(self, content: mmap.mmap) -> None:
        self.content = content
        self.at = 8

    def number(self, kind: int) -> Any:
        form = _NUMBERS[kind]
        value = struct.unpack_from(form, self.content, self.at)[0]
        self.at += struct.calcsize(form)
        return value

    def text(self) -> str:
        size = self.number(10)
        self.at += size
        return self.content[self.at - size : self.at].decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            inner = self.number(4)
            return [self.value(inner) for _ in range(self.number(10))]
        return self.number(kind)
