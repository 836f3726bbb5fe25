"""List the files of a slide, and detect changes to them since it was opened."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .dicom_header import series_uid

# Formats of several files. MIRAX keeps the others in a folder of its own name, the rest next to the main file.
MIRAX, DICOM, HAMAMATSU = (".mrxs",), (".dcm",), (".vms", ".vmu")
# Bytes at either end that are compared. The directories of a TIFF stand at one or the other.
_END = 2**16
# The entries of a .vms or .vmu file that name other files.
_NAMED = re.compile(
    rb"^[ \t]*(?:ImageFile|MapFile|MacroImage|OptimisationFile)[ \t]*(?:\([^)\r\n]*\))?[ \t]*=[ \t]*([^\r\n]*[^\s])",
    re.M,
)
_LARGEST_INDEX = 2**22


@dataclass(frozen=True)
class FileState:
    """Total bytes of one or several files, and the newest modification time in nanoseconds since 1970."""

    size: int
    modified: int


def slide_state(path: str | Path) -> FileState:
    """Return the state of all files of a slide, for records and cache keys.

    Raises:
        OSError: the file is missing.
    """
    path = Path(path)
    main = os.stat(path)
    return _total([FileState(main.st_size, main.st_mtime_ns), *(_state(file) for file in _others(path))])


def has_several_files(path: str | Path) -> bool:
    """Return whether a slide in this file's format consists of several files."""
    return Path(path).suffix.lower() in (*MIRAX, *DICOM, *HAMAMATSU)


class SlideFiles:
    """A record of a slide's files at one moment, to notice later changes.

    Size, modification time and both ends of the main file are compared, and size and modification time of the others:
    no file is read whole. Files that are added to the folder later do not count.

    Args:
        path: the slide.

    Attributes:
        state: state of all files together; see :func:`slide_state`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._states = {file: _state(file) for file in (path, *_others(path))}
        self._ends = _ends(path)
        self.state = _total(self._states.values())

    def change(self) -> str | None:
        """Return a phrase for the change since then, or None."""
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


def _total(states: Iterable[FileState | None]) -> FileState:
    present = [state for state in states if state is not None]
    return FileState(sum(state.size for state in present), max((state.modified for state in present), default=0))


def _state(path: Path) -> FileState | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return FileState(status.st_size, status.st_mtime_ns)


def _ends(path: Path) -> bytes | None:
    """Return a hash of a file's first and last bytes; None if it cannot be read."""
    try:
        with path.open("rb") as file:
            first = file.read(_END)
            file.seek(max(0, os.fstat(file.fileno()).st_size - _END))
            return hashlib.sha256(first + file.read(_END)).digest()
    except OSError:
        return None


def _others(path: Path) -> Iterator[Path]:
    """Yield the files of a slide besides the main one, not other files in the same folder."""
    suffix = path.suffix.lower()
    if suffix in MIRAX:
        yield from sorted(
            file for file in path.with_suffix("").rglob("*") if is_mirax_data(file.name) and os.path.isfile(file)
        )
    elif suffix in HAMAMATSU:
        yield from (file for name in hamamatsu_names(_content(path)) if os.path.isfile(file := path.parent / name))
    elif suffix in DICOM:
        series = series_uid(path)
        for file in _listed(path.parent) if series is not None else ():
            # The folder may hold other slides, and some may still be being copied there.
            if file != path and file.suffix.lower() in DICOM and os.path.isfile(file) and series_uid(file) == series:
                yield file


def _listed(folder: Path) -> list[Path]:
    """Return a folder's content; nothing if it is missing or not readable, for which OpenSlide has the better error."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def is_mirax_data(name: str) -> bool:
    """Return whether a file in a MIRAX slide's folder belongs to it: ``Slidedat.ini``, the index and the data."""
    return Path(name).suffix.lower() in (".dat", ".ini") and not Path(name).name.startswith(".")


def hamamatsu_names(index: bytes) -> list[str]:
    """Return the names of the files that a ``.vms`` or ``.vmu`` file lists, without repeats."""
    return list(dict.fromkeys(os.fsdecode(name) for name in _NAMED.findall(index)))


def _content(path: Path) -> bytes:
    """Return the first bytes of a text file, more than any index has; nothing if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST_INDEX)
    except OSError:
        return b""
