"""Check the structure of an ONNX file, and that all of its weights are in it.

ONNX is a protocol buffer. Its fields are read here by their numbers, without the package ``onnx``, which is an extra.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from .texts import BundleFileError

_REMEDY = "Do not load it. Export the bundle again, or get it again from whoever made it"
_MOST_FIELDS, _DEEPEST = 500_000, 32
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# Field number -> message in it, for the messages that lead to a tensor (onnx.proto).
_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "function": {7: "node", 11: "attribute"},
    "tensor": {},
}
_IR_VERSION, _GRAPH, _EXTERNAL_DATA, _DATA_LOCATION, _DIMENSIONS = 1, 7, 13, 14, 1
# Fields with domain, name and variant of the function that a node calls, and of a function itself.
_CALLED = {"node": (7, 4, 8), "function": (10, 1, 13)}
# Operators of other domains are compiled code that must be installed; no network here needs them.
_STANDARD = ("", "ai.onnx")
# Numbers in a byte, of the smallest types that ONNX packs.
_MOST_IN_BYTE = 8

_Called = tuple[str, ...]


class _Malformed(Exception):
    """The bytes are no protocol buffer."""


def check_onnx(path: Path) -> None:
    """Check that a file is a complete ONNX model with all its weights in it.

    Raises:
        BundleFileError: the file is not, or names a file of weights, which could be any file of the machine.
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
    """A walk through the messages of a model."""

    def __init__(self, path: Path, content: mmap.mmap) -> None:
        self._path, self._content, self._left = path, content, _MOST_FIELDS
        # Functions and operators that the graph (None) and each function call.
        self._calls: dict[_Called | None, list[_Called]] = {None: []}

    def model(self) -> set[int]:
        """Walk through all messages, and return the fields of the outermost."""
        found: set[int] = set()
        waiting: list[tuple[str, int, int, int, _Called | None]] = [("model", 0, len(self._content), 0, None)]
        while waiting:
            message, start, end, depth, function = waiting.pop()
            if depth > _DEEPEST:
                raise BundleFileError(self._path, f"its graphs are nested deeper than {_DEEPEST} levels", _REMEDY)
            parts = list(self._fields(start, end))
            if message == "tensor":
                self._check_size(parts, end - start)
            elif message == "node":
                self._calls[function].append(self._called(message, parts))
            elif message == "function":
                function = self._called(message, parts)
                if function in self._calls:
                    raise BundleFileError(self._path, f"has two functions {function[1]!r:.80}", _REMEDY)
                self._calls[function] = []
            for number, kind, begin, stop in parts:
                if message == "model":
                    found.add(number)
                if message == "tensor" and (number == _EXTERNAL_DATA or self._is_elsewhere(number, kind, begin)):
                    raise BundleFileError(self._path, "names another file to read weights from", _REMEDY)
                inner = _MESSAGES[message].get(number)
                if inner is None:
                    continue
                if kind != _BYTES:
                    raise _Malformed(f"a {inner} at byte {begin} is none")
                waiting.append((inner, begin, stop, depth + 1, function))
        self._check_calls()
        return found

    def _called(self, message: str, parts: list[tuple[int, int, int, int]]) -> _Called:
        """Return domain, name and variant of a function, or of the one that a node calls."""
        # If a field is there twice, readers take the last.
        texts = {number: self._content[begin:stop] for number, kind, begin, stop in parts if kind == _BYTES}
        return tuple(texts.get(number, b"").decode("utf-8", "replace") for number in _CALLED[message])

    def _check_calls(self) -> None:
        """Refuse third-party operators, and functions that call themselves or unfold without end."""
        for calls in self._calls.values():
            for called in calls:
                if called not in self._calls and called[0] not in _STANDARD:
                    raise BundleFileError(self._path, f"calls {called[1]!r:.80} of {called[0]!r:.80}", _REMEDY)
        if self._unfolded(None, {}, 0) > _MOST_FIELDS:
            raise BundleFileError(self._path, f"its functions unfold to more than {_MOST_FIELDS:,} nodes", _REMEDY)

    def _unfolded(self, function: _Called | None, known: dict[_Called | None, int], depth: int) -> int:
        """Return how many nodes a function has, including those of all functions that it calls."""
        if depth > _DEEPEST:
            problem = f"its functions call themselves, or are nested deeper than {_DEEPEST} levels"
            raise BundleFileError(self._path, problem, _REMEDY)
        if function not in known:
            inner = [one for one in self._calls[function] if one in self._calls]
            nested = sum(self._unfolded(one, known, depth + 1) for one in inner)
            known[function] = len(self._calls[function]) + nested
        return known[function]

    def _check_size(self, parts: list[tuple[int, int, int, int]], length: int) -> None:
        """Refuse a tensor whose stated size is larger than its data."""
        count = 1
        for number, kind, begin, stop in parts:
            while number == _DIMENSIONS and begin < stop:
                side, begin = self._varint(begin, stop)
                count *= side
                # A reader may reserve that much memory before it reads the data. Checking each step bounds the product.
                if kind not in (_VARINT, _BYTES) or count > _MOST_IN_BYTE * len(self._content):
                    raise self._too_large()
        if count > _MOST_IN_BYTE * length:
            raise self._too_large()

    def _too_large(self) -> BundleFileError:
        return BundleFileError(self._path, "a tensor states a size larger than its data", _REMEDY)

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
