"""Slides brought to the local disk."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from fsspec.callbacks import Callback

from ..errors import UnreadableFileError
from ..files import utf8
from ..slides import has_several_files, slide_state
from ..slides.files import DICOM, HAMAMATSU, MIRAX, hamamatsu_names, is_mirax_data
from .cache import CacheError, SlideCache
from .locations import filesystem, folder_of, is_url, name_of, shown
from .patience import is_full, patiently


class StagingError(UnreadableFileError):
    """A slide that cannot be brought to the local disk."""


class ChangedError(OSError):
    """A slide that became another while it was copied."""


@dataclass(frozen=True)
class Source:
    """What a slide's location says of it.

    Attributes:
        location: path or URL.
        size: bytes of all its files.
        modified: nanoseconds since 1970 at which the newest of its files was changed; 0 where a server does not say.
        version: changes when its contents do, as far as the server tells.
    """

    location: str
    size: int
    modified: int
    version: str

    @property
    def identity(self) -> dict[str, Any]:
        """The file as a summary's settings have it."""
        return {"file": name_of(self.location), "bytes": self.size, "modified": self.modified}


def look_up(location: str) -> Source:
    """What a slide's location says of it, without reading it.

    Raises:
        StagingError: there is no such file, or the server does not say how large it is.
    """
    if not is_url(location):
        try:
            state = slide_state(location)
        except FileNotFoundError as error:
            raise StagingError(location, "no such file", "Check the path, and the drive it is on") from error
        return Source(location, state.size, state.modified, "")
    files = patiently(lambda: _files_of(location), shown(location))
    newest = max(file.modified for file in files)
    return Source(location, sum(file.size for file in files), newest, "+".join(file.version for file in files))


@contextmanager
def staged(location: str, cache: SlideCache) -> Iterator[Path]:
    """A slide on the local disk while the block runs; a path is left where it is.

    Raises:
        StagingError: there is no such file, or it is larger than the cache.
        OSError: it cannot be fetched, or the disk is full.
    """
    if not is_url(location):
        yield Path(location)
        return
    source = look_up(location)
    key = hashlib.sha256(utf8(repr((shown(location), source.size, source.version)))).hexdigest()[:32]
    held = cache.held(key, source.size, lambda folder: patiently(lambda: _fetch(source, folder), shown(location)))
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(held)
        except CacheError as error:
            raise StagingError(shown(location), str(error), "Or copy it to a local disk first") from error
        except OSError as error:
            if is_full(error):
                raise OSError(error.errno, f"{cache.folder}: {error.strerror}. Free some, or choose --cache") from error
            raise
        yield folder / name_of(location)


@dataclass(frozen=True)
class _File:
    url: str
    name: str
    size: int
    modified: int
    version: str


def _files_of(location: str) -> list[_File]:
    """The files of a slide, its own first, under names relative to it."""
    files, path = filesystem(location)
    try:
        main = _described(location, name_of(location), files.info(path))
    except FileNotFoundError as error:
        cause: Any = error.__cause__
        if cause is not None and getattr(cause, "status", 404) != 404:
            # Of a web server, fsspec calls every answer so.
            raise cause from error
        raise StagingError(shown(location), "no such file", "Check the URL, and that it is still there") from error
    suffix = Path(main.name).suffix.lower()
    if not has_several_files(main.name):
        return [main]
    around = suffix not in MIRAX
    folder = folder_of(path) if "://" in path else path.rpartition("/")[0]
    if not around:
        folder = f"{folder}/{Path(main.name).stem}"
    found = files.find(folder, maxdepth=1 if around else None, detail=True)
    base = folder if around else folder.rpartition("/")[0]
    others = [
        (name.removeprefix(base).lstrip("/"), files.unstrip_protocol(name), info)
        for name, info in sorted(found.items())
    ]
    index = files.cat_file(path) if suffix in HAMAMATSU else b""
    return [
        main,
        *(
            _described(url, name, info)
            for name, url, info in others
            if name != main.name and _is_part(name, suffix, index)
        ),
    ]


def _is_part(name: str, suffix: str, index: bytes) -> bool:
    """Return whether a file in a slide's folder is of a slide with this ending, whose ``.vms`` file is the index."""
    if suffix in DICOM:
        return Path(name).suffix.lower() in DICOM
    return name in hamamatsu_names(index) if suffix in HAMAMATSU else is_mirax_data(name)


def _described(url: str, name: str, info: dict[str, Any]) -> _File:
    if info.get("type") == "directory":
        raise StagingError(shown(url), "a folder, not a slide", "Name a slide's file; of MIRAX the .mrxs")
    if info.get("size") is None:
        raise StagingError(shown(url), "the server does not say how large it is", "Copy it to a local disk first")
    modified = _modified(info)
    return _File(url, name, int(info["size"]), modified, str(info.get("ETag") or info.get("etag") or modified))


def _modified(info: dict[str, Any]) -> int:
    value = info.get("LastModified") or info.get("updated") or info.get("mtime") or info.get("last_modified")
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, datetime):
        value = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    # Whole seconds: of more, not every server says the same twice.
    return int(value or 0) * 10**9


def _parsed(written: str) -> datetime:
    try:
        return datetime.fromisoformat(written)
    except ValueError:
        return parsedate_to_datetime(written)


class _Bounded(Callback):
    """Stops a server that sends more than it said."""

    def __init__(self, file: _File) -> None:
        super().__init__(size=file.size)
        self._file = file

    def relative_update(self, inc: int = 1) -> None:
        super().relative_update(inc)
        if self.value > self._file.size:
            raise ChangedError(errno.EIO, f"{shown(self._file.url)}: more bytes than the {self._file.size} announced")


def _fetch(source: Source, folder: Path) -> None:
    """Copy all files of a slide; whole, and all of one moment."""
    listed = _files_of(source.location)
    if (sum(file.size for file in listed), "+".join(file.version for file in listed)) != (source.size, source.version):
        raise ChangedError(errno.EIO, f"{shown(source.location)}: became another slide before it was copied")
    for file in listed:
        target = folder / file.name
        if folder.resolve() not in target.resolve().parents:
            raise StagingError(shown(file.url), "its name leads out of the slide's folder", "Rename it")
        target.parent.mkdir(parents=True, exist_ok=True)
        files, path = filesystem(file.url)
        files.get_file(path, str(target), callback=_Bounded(file))
        if target.stat().st_size != file.size:
            raise ChangedError(
                errno.EIO, f"{shown(file.url)}: {target.stat().st_size} bytes came of the {file.size} announced"
            )
        os.utime(target, ns=(file.modified, file.modified))
    if _files_of(source.location) != listed:
        raise ChangedError(errno.EIO, f"{shown(source.location)}: became another slide while it was copied")
