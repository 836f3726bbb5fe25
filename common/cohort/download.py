"""Slides copied to the local disk."""

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
from .cache import CacheError, DownloadCache
from .locations import filesystem, folder_of, is_url, name_of, redact_url
from .retry import is_disk_full, retry


class DownloadError(UnreadableFileError):
    """A slide cannot be copied to the local disk."""


class SlideReplacedError(OSError):
    """A slide was replaced by another while it was copied."""


@dataclass(frozen=True)
class SlideSource:
    """Size and version of a slide, found without reading it.

    Attributes:
        location: path or URL.
        size: bytes of all its files.
        modified: time at which the newest of its files was changed, in nanoseconds since 1970; 0 if a server does not
            say.
        version: text that changes with the contents, as far as the server tells.
    """

    location: str
    size: int
    modified: int
    version: str

    @property
    def identity(self) -> dict[str, Any]:
        """The file, in the form of the settings in a slide's summary."""
        return {"file": name_of(self.location), "bytes": self.size, "modified": self.modified}


def stat_slide(location: str) -> SlideSource:
    """Return the size and version of a slide without reading it.

    Raises:
        DownloadError: there is no such file, or the server does not say how large it is.
    """
    if not is_url(location):
        try:
            state = slide_state(location)
        except FileNotFoundError as error:
            raise DownloadError(location, "no such file", "Check the path, and the drive it is on") from error
        return SlideSource(location, state.size, state.modified, "")
    files = retry(lambda: _files_of(location), redact_url(location))
    newest = max(file.modified for file in files)
    return SlideSource(location, sum(file.size for file in files), newest, "+".join(file.version for file in files))


@contextmanager
def local_copy(location: str, cache: DownloadCache) -> Iterator[Path]:
    """Keep a copy of a slide on the local disk while the block runs. A slide with a path is used where it is.

    Raises:
        DownloadError: there is no such file, or it is larger than the cache.
        OSError: the download failed, or the disk is full.
    """
    if not is_url(location):
        yield Path(location)
        return
    source, name = stat_slide(location), redact_url(location)
    key = hashlib.sha256(utf8(repr((name, source.size, source.version)))).hexdigest()[:32]
    entry = cache.hold(key, source.size, lambda folder: retry(lambda: _download(source, folder), name))
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(entry)
        except CacheError as error:
            raise DownloadError(name, str(error), "Or copy it to a local disk first") from error
        except OSError as error:
            if is_disk_full(error):
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
    """Return the files of a slide, the named one first, with names relative to it."""
    files, path = filesystem(location)
    try:
        main = _file(location, name_of(location), files.info(path))
    except FileNotFoundError as error:
        cause: Any = error.__cause__
        if cause is not None and getattr(cause, "status", 404) != 404:
            # fsspec raises this for every error that a web server answers with.
            raise cause from error
        raise DownloadError(
            redact_url(location), "no such file", "Check the URL, and that it is still there"
        ) from error
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
        *(_file(url, name, info) for name, url, info in others if name != main.name and _is_part(name, suffix, index)),
    ]


def _is_part(name: str, suffix: str, index: bytes) -> bool:
    """Return whether a file in a slide's folder is part of a slide with this suffix.

    Args:
        name: name of the file.
        suffix: suffix of the slide.
        index: contents of the slide's ``.vms`` file, if it has one.
    """
    if suffix in DICOM:
        return Path(name).suffix.lower() in DICOM
    return name in hamamatsu_names(index) if suffix in HAMAMATSU else is_mirax_data(name)


def _file(url: str, name: str, info: dict[str, Any]) -> _File:
    if info.get("type") == "directory":
        raise DownloadError(redact_url(url), "a folder, not a slide", "Name a slide's file; of MIRAX the .mrxs")
    if info.get("size") is None:
        raise DownloadError(redact_url(url), "the server does not say how large it is", "Copy it to a local disk first")
    modified = _modified(info)
    return _File(url, name, int(info["size"]), modified, str(info.get("ETag") or info.get("etag") or modified))


def _modified(info: dict[str, Any]) -> int:
    value = info.get("LastModified") or info.get("updated") or info.get("mtime") or info.get("last_modified")
    if isinstance(value, str):
        value = _parse_time(value)
    if isinstance(value, datetime):
        value = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    # Whole seconds, as some servers do not repeat the fraction.
    return int(value or 0) * 10**9


def _parse_time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return parsedate_to_datetime(text)


class _SizeLimit(Callback):
    """Stops the download of a file that is larger than announced."""

    def __init__(self, file: _File) -> None:
        super().__init__(size=file.size)
        self._file = file

    def relative_update(self, inc: int = 1) -> None:
        super().relative_update(inc)
        if self.value > self._file.size:
            raise SlideReplacedError(
                errno.EIO, f"{redact_url(self._file.url)}: more bytes than the {self._file.size} announced"
            )


def _download(source: SlideSource, folder: Path) -> None:
    """Copy all files of a slide, each whole and all of the same version."""
    listed, name = _files_of(source.location), redact_url(source.location)
    if (sum(file.size for file in listed), "+".join(file.version for file in listed)) != (source.size, source.version):
        raise SlideReplacedError(errno.EIO, f"{name}: was replaced by another slide before it was copied")
    for file in listed:
        target = folder / file.name
        if folder.resolve() not in target.resolve().parents:
            raise DownloadError(redact_url(file.url), "its name leads out of the slide's folder", "Rename it")
        target.parent.mkdir(parents=True, exist_ok=True)
        files, path = filesystem(file.url)
        files.get_file(path, str(target), callback=_SizeLimit(file))
        received = target.stat().st_size
        if received != file.size:
            raise SlideReplacedError(
                errno.EIO, f"{redact_url(file.url)}: {received} bytes came of the {file.size} announced"
            )
        os.utime(target, ns=(file.modified, file.modified))
    if _files_of(source.location) != listed:
        raise SlideReplacedError(errno.EIO, f"{name}: was replaced by another slide while it was copied")
