"""Storage of a cohort's outputs: a folder, or a URL."""

from __future__ import annotations

import hashlib
import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..files import PARTIAL, atomic_write, remove, sha256, utf8
from ..outputs.writer import SUMMARY
from .locations import filesystem, is_listable, is_url, redact_url, resolve_location, writes_atomically
from .retry import retry

# Folder for the cohort's own files: records of finished slides, settings, and parts of large slides.
_OWN = ".cohort"


class OutputsMissingError(Exception):
    """Outputs that were just made are gone."""


def open_store(output: str | Path, scratch: str | Path) -> OutputStore:
    """Return the store of a location.

    Args:
        output: path or URL.
        scratch: local folder in which outputs are made before they are uploaded to a URL.
    """
    location = resolve_location(output)
    return RemoteStore(location, Path(scratch)) if is_url(location) else FolderStore(Path(location))


def file_hashes(folder: Path, outputs: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return bytes and SHA-256 of every file of some outputs, by path relative to the slide's folder.

    Raises:
        OutputsMissingError: an output is not there.
    """
    missing = [name for name in outputs if not (folder / name).exists()]
    if missing:
        raise OutputsMissingError(
            f"{folder}: {', '.join(missing)} vanished while the slide was processed. Does another run write here?"
        )
    files = sorted(path for name in outputs for path in (folder / name, *(folder / name).rglob("*")) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in files
    }


class OutputStore(ABC):
    """The slides' folders, the records of finished slides, and parts of slides.

    A slide is finished once it has a record, which is written last.

    Attributes:
        location: path or URL.
        display_location: the location without secrets, for messages.
        working: local folder in which the slides' outputs are made.
    """

    location: str
    display_location: str
    working: Path

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """Return the contents of one of the cohort's own files, or None if it does not exist."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Write one of the cohort's own files atomically."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete a file, if it exists."""

    @abstractmethod
    def file_sizes(self, slide: str) -> dict[str, int]:
        """Return the bytes of the files in a slide's folder, by path relative to it."""

    @abstractmethod
    def start(self, slide: str) -> None:
        """Prepare for segmenting a slide. Where outputs are made in place, delete its record and the outputs that no
        longer match it."""

    @abstractmethod
    def upload(self, slide: str, files: Mapping[str, Any]) -> None:
        """Move a slide's finished outputs from the working folder to the store."""

    @abstractmethod
    def discard(self, slide: str) -> None:
        """Clean up after a slide that was given up."""

    @abstractmethod
    def save_part(self, name: str, part: Path) -> None:
        """Save a part of a slide atomically."""

    @abstractmethod
    def open_part(self, name: str) -> AbstractContextManager[Path]:
        """Return a context in which a part is a local file."""

    @abstractmethod
    def has_part(self, name: str) -> bool:
        """Return whether a part is saved."""

    @abstractmethod
    def delete_parts(self, slide: str) -> None:
        """Delete the parts of a slide."""

    def record(self, slide: str) -> dict[str, Any] | None:
        """Return the record of a finished slide, or None if there is none or its files have other sizes now."""
        content = self.read(f"{_OWN}/slides/{slide}.json")
        if content is None:
            return None
        files = _recorded_sizes(content)
        there = self.file_sizes(slide) if files else {}
        return json.loads(content) if files and all(there.get(path) == size for path, size in files.items()) else None

    def commit(self, slide: str, record: Mapping[str, Any]) -> None:
        """Upload a slide's outputs, then write its record, which marks it as finished."""
        self.upload(slide, record["files"])
        self.write(f"{_OWN}/slides/{slide}.json", _as_json(record))

    def save_settings(self, settings: Mapping[str, Any]) -> str:
        """Save settings, which many records share, once. Return the key by which records refer to them."""
        content = _as_json(settings)
        digest = hashlib.sha256(content).hexdigest()[:16]
        name = f"{_OWN}/settings/{digest}.json"
        if self.read(name) != content:
            try:
                self.write(name, content)
            except OSError:
                # Another worker may have written it at the same moment.
                if self.read(name) != content:
                    raise
        return digest

    def settings(self, digest: str) -> dict[str, Any]:
        """Return the settings that :meth:`save_settings` saved under a key."""
        return json.loads(self.read(f"{_OWN}/settings/{digest}.json") or b"{}")


class FolderStore(OutputStore):
    """A folder that all workers see."""

    def __init__(self, folder: Path) -> None:
        self.location = self.display_location = str(folder)
        self.working = folder

    def read(self, name: str) -> bytes | None:
        try:
            return (self.working / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        with atomic_write(self.working / name) as partial:
            partial.write_bytes(content)

    def delete(self, name: str) -> None:
        (self.working / name).unlink(missing_ok=True)

    def file_sizes(self, slide: str) -> dict[str, int]:
        folder = self.working / slide
        return {
            path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()
        }

    def start(self, slide: str) -> None:
        name = f"{_OWN}/slides/{slide}.json"
        files = _recorded_sizes(self.read(name))
        there = self.file_sizes(slide) if files else {}
        for output in {path.partition("/")[0] for path, size in files.items() if there.get(path) != size}:
            remove(self.working / slide / output)
        self.delete(name)

    def upload(self, slide: str, files: Mapping[str, Any]) -> None:
        pass  # The outputs were made in place.

    def discard(self, slide: str) -> None:
        pass  # The next run resumes from what is there.

    def save_part(self, name: str, part: Path) -> None:
        target = self._part(name)
        with atomic_write(target) as partial:
            part.replace(partial)

    @contextmanager
    def open_part(self, name: str) -> Iterator[Path]:
        yield self._part(name)

    def has_part(self, name: str) -> bool:
        return self._part(name).exists()

    def delete_parts(self, slide: str) -> None:
        remove(self.working / _OWN / "parts" / slide)

    def _part(self, name: str) -> Path:
        return self.working / _OWN / "parts" / name


class RemoteStore(OutputStore):
    """A URL that fsspec writes to.

    On object stores a file appears whole or not at all. Elsewhere it is written under another name and renamed.

    Raises:
        ValueError: the URL cannot be written to.
    """

    def __init__(self, url: str, scratch: Path) -> None:
        if not is_listable(url):
            raise ValueError(f"{redact_url(url)}: outputs cannot be written there. Name a folder, or s3://, gs://, …")
        self.location = url.rstrip("/")
        self.display_location = redact_url(self.location)
        self.working = scratch / hashlib.sha256(utf8(self.location)).hexdigest()[:16]
        self._files, self._root = filesystem(self.location)
        # Part of the names of unfinished uploads: unlike that of other workers, and the same in every retry.
        self._id = uuid.uuid4().hex[:8]

    def read(self, name: str) -> bytes | None:
        try:
            return self._retry(lambda: self._files.cat_file(f"{self._root}/{name}"), name)
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        self.working.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self.working, prefix=PARTIAL) as folder:
            local = Path(folder) / "content"
            local.write_bytes(content)
            self._upload_file(local, name)

    def delete(self, name: str) -> None:
        def delete_if_there() -> None:
            try:
                self._files.rm_file(f"{self._root}/{name}")
            except FileNotFoundError:
                return

        self._retry(delete_if_there, name)

    def file_sizes(self, slide: str) -> dict[str, int]:
        folder = f"{self._root}/{slide}"
        found = self._retry(lambda: self._find(folder), slide)
        return {path.removeprefix(folder).lstrip("/"): int(info["size"]) for path, info in found.items()}

    def start(self, slide: str) -> None:
        pass  # Earlier outputs stay until they are replaced.

    def upload(self, slide: str, files: Mapping[str, Any]) -> None:
        before = self.file_sizes(slide)
        # First the marks that the earlier outputs are complete.
        self.delete(f"{_OWN}/slides/{slide}.json")
        if SUMMARY in before:
            self.delete(f"{slide}/{SUMMARY}")
        # The folder may also hold users' files, and earlier outputs that this run does not make.
        outputs = {path.partition("/")[0] for path in files}
        for path in [path for path in before if path.partition("/")[0] in outputs and path not in files]:
            self.delete(f"{slide}/{path}")
        for path in sorted(files, key=_upload_order):
            self._upload_file(self.working / slide / path, f"{slide}/{path}")
        remove(self.working / slide)

    def discard(self, slide: str) -> None:
        remove(self.working / slide)

    def save_part(self, name: str, part: Path) -> None:
        self._upload_file(part, f"{_OWN}/parts/{name}")

    @contextmanager
    def open_part(self, name: str) -> Iterator[Path]:
        self.working.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self.working, prefix=PARTIAL) as folder:
            local = Path(folder) / "part.zip"
            self._retry(lambda: self._files.get_file(f"{self._root}/{_OWN}/parts/{name}", str(local)), name)
            yield local

    def has_part(self, name: str) -> bool:
        return self._retry(lambda: self._files.exists(f"{self._root}/{_OWN}/parts/{name}"), name)

    def delete_parts(self, slide: str) -> None:
        folder = f"{self._root}/{_OWN}/parts/{slide}"
        for path in self._retry(lambda: self._find(folder), slide):
            self.delete(path.removeprefix(self._root).lstrip("/"))

    def _retry(self, call: Callable[[], Any], name: str) -> Any:
        return retry(call, f"{self.display_location}/{name}")

    def _find(self, folder: str) -> dict[str, Any]:
        try:
            return self._files.find(folder, detail=True)
        except FileNotFoundError:
            return {}

    def _upload_file(self, local: Path, name: str) -> None:
        self._retry(lambda: self._put(local, name), name)

    def _put(self, local: Path, name: str) -> None:
        target = f"{self._root}/{name}"
        if writes_atomically(self.location):
            self._files.put_file(str(local), target)
        else:
            folder, _, last = target.rpartition("/")
            self._files.makedirs(folder, exist_ok=True)
            partial = f"{folder}/{PARTIAL}{self._id}-{last}"
            self._files.put_file(str(local), partial)
            self._files.mv(partial, target)
        there, here = self._files.info(target)["size"], local.stat().st_size
        if there != here:
            raise OSError(f"{self.display_location}/{name}: {there} of {here} bytes arrived")


def _upload_order(path: str) -> tuple[bool, bool, int, str]:
    """Return a sort key that puts the summary last, and an array's metadata after its chunks."""
    return path == SUMMARY, path.endswith("zarr.json"), -path.count("/"), path


def _recorded_sizes(content: bytes | None) -> dict[str, int]:
    """Return the bytes of each file in a record; none if the record is damaged."""
    try:
        record = json.loads(content or b"{}")
        needed = ("settings", "slide", "entry", "seconds", "predicted_mm2", "worker", "finished")
        if any(key not in record for key in needed):
            return {}
        return {path: int(file["bytes"]) for path, file in record["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _as_json(content: Mapping[str, Any]) -> bytes:
    return utf8(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
