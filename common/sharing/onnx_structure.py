"""The structure of an ONNX file: whether it is one, and whether all of its weights are in it.

ONNX is a protocol buffer. Its fields are walked here by their numbers, without the package ``onnx``, which is an extra.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from .texts import BundleFileError

_REMEDY = "Do not load it. Export the bundle again, or get it again from whoever made it"
_MOST_FIELDS, _DEEPEST = 500_000, 32
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# Number of a field -> the message in it, of the messages that lead to a tensor (onnx.proto).
_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "function": {7: "node", 11: "attribute"},
    "tensor": {},
}
_IR_VERSION, _GRAPH, _EXTERNAL_DATA, _DATA_LOCATION = 1, 7, 13, 14


class _Malformed(Exception):
    """The bytes are no protocol buffer."""


def check_onnx(path: Path) -> None:
    """Check that a file is a whole ONNX model with all its weights in it.

    Raises:
        BundleFileError: it is not, or names a file of weights, which could be any file of the machine.
    """
    if path.stat().st_size == 0:
        raise BundleFileError(path, "no ONNX file: it is empty", _REMEDY)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            found = _Walk(path, content).model()
        except _Malformed as error:
            raise BundleFileError(path, f"no ONNX file, or one that was cut short ({error})", _REMEDY) from error
    if not {_IR_VERSION, _GRAPH} <= found:
        raise BundleFileError(path, "no ONNX file: without a version or a graph", _REMEDY)


class _Walk:
    """Walk through the messages of a model."""

    def __init__(self, path: Path, content: mmap.mmap) -> None:
        self._path, self._content, self._left = path, content, _MOST_FIELDS

    def model(self) -> set[int]:
        """Walk through all messages, and return the fields of the outermost."""
        found: set[int] = set()
        waiting = [("model", 0, len(self._content), 0)]
        while waiting:
            message, start, end, depth = waiting.pop()
            if depth > _DEEPEST:
                raise BundleFileError(self._path, f"its graphs are nested deeper than {_DEEPEST} levels", _REMEDY)
            for number, kind, begin, stop in self._fields(start, end):
                if message == "model":
                    found.add(number)
                if message == "tensor" and (number == _EXTERNAL_DATA or self._is_elsewhere(number, kind, begin)):
                    raise BundleFileError(self._path, "names another file to read weights from", _REMEDY)
                inner = _MESSAGES[message].get(number)
                if inner is None:
                    continue
                if kind != _BYTES:
                    raise _Malformed(f"a {inner} at byte {begin} is none")
                waiting.append((inner, begin, stop, depth + 1))
        return found

    def _is_elsewhere(self, number: int, kind: int, begin: int) -> bool:
        return number == _DATA_LOCATION and (kind != _VARINT or self._content[begin] != 0)

    def _fields(self, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield number, kind, first and last byte of each field of a message."""
        while start < end:
            self._left -= 1
            if self._left < 0:
                raise BundleFileError(self._path, f"more than {_MOST_FIELDS:,} parts, too many to check", _REMEDY)
            tag, start = self._varint(start, end)
            number, kind = tag >> 3, tag & 7
            if kind == _VARINT:
                stop = self._varint(start, end)[1]
            elif kind == _BYTES:
                length, start = self._varint(start, end)
                stop = start + length
            elif kind in (_FIXED64, _FIXED32):
                stop = start + (8 if kind == _FIXED64 else 4)
            else:
                raise _Malformed(f"a field of unknown kind at byte {start}")
            if number == 0 or stop > end:
                raise _Malformed(f"a field at byte {start} does not end in its message")
            yield number, kind, start, stop
            start = stop

    def _varint(self, start: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while start < end and shift < 70:
            byte = self._content[start]
            value |= (byte & 127) << shift
            start, shift = start + 1, shift + 7
            if byte < 128:
                return value, start
        raise _Malformed(f"a number at byte {start} does not end")
