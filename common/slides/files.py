"""The files that a slide consists of, and whether they are still those that were opened."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Slides of several files: the others lie in the folder of the same name, or in the same folder.
BESIDE = (".mrxs",)
AROUND = (".dcm", ".vms", ".vmu")
# Bytes at either end that are compared. Directories of TIFF files stand at one or the other.
_END = 2**16
# A DICOM series' UID, as explicit value representations have it.
_SERIES = re.compile(rb"\x20\x00\x0e\x00UI..([0-9.]+)", re.DOTALL)


@dataclass(frozen=True)
class _State:
    size: int
    modified: int


class SlideFiles:
    """The files of a slide as they were at one moment.

    Of the main file size, time of change and both ends are compared, of the others size and time: no file is read
    whole. Files that come into the folder later do not count.

    Args:
        path: the slide.

    Attributes:
        size: bytes of the main file; 0 if it is not there.
        modified: nanoseconds since 1970 at which the main file was last changed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._states = {file: _state(file) for file in (path, *_others(path))}
        self._ends = _ends(path)
        main = self._states[path]
        self.size, self.modified = (main.size, main.modified) if main is not None else (0, 0)

    def change(self) -> str | None:
        """Return what has happened to the files since, or None if they are the same."""
        for file, before in self._states.items():
            now = _state(file)
            if now == before:
                continue
            name = "it" if file == self.path else file.name
            if now is None or before is None:
                return f"{name} was removed while the slide was read" if now is None else f"{name} appeared"
            if now.size != before.size:
                return f"{name} was changed while the slide was read: {before.size} bytes then, {now.size} now"
            return f"{name} was written to or replaced while the slide was read"
        return None if _ends(self.path) == self._ends else "it was replaced by another file while the slide was read"


def _state(path: Path) -> _State | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return _State(found.st_size, found.st_mtime_ns)


def _ends(path: Path) -> bytes | None:
    """Return a hash of a file's first and last bytes; None of one that cannot be read."""
    try:
        with path.open("rb") as file:
            first = file.read(_END)
            file.seek(max(0, os.fstat(file.fileno()).st_size - _END))
            return hashlib.sha256(first + file.read(_END)).digest()
    except OSError:
        return None


def _others(path: Path) -> Iterator[Path]:
    """Yield the files beside the main one that belong to its slide."""
    suffix = path.suffix.lower()
    if suffix in BESIDE:
        yield from sorted(file for file in path.with_suffix("").rglob("*") if file.is_file())
    elif suffix in AROUND:
        series = _series(path) if suffix == ".dcm" else None
        for file in sorted(path.parent.iterdir()) if path.parent.is_dir() else ():
            if file == path or not file.is_file():
                continue
            # Of DICOM, other slides may lie in the same folder, or be just copied there.
            if suffix != ".dcm" or (file.suffix.lower() == suffix and _series(file) == series):
                yield file


def _series(path: Path) -> frozenset[bytes]:
    """Return the UIDs of series that stand in the header of a DICOM file."""
    try:
        with path.open("rb") as file:
            return frozenset(_SERIES.findall(file.read(_END)))
    except OSError:
        return frozenset()
