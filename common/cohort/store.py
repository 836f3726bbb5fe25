"""Where a cohort's outputs go: a folder, or a URL."""

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
from .locations import filesystem, is_url, lists_files, location_of, puts_whole, shown
from .patience import patiently

# What the cohort itself keeps next to the slides' folders: a record of each finished slide, and parts of large ones.
_OWN = ".cohort"


class OutputsGoneError(Exception):
    """Outputs that were just made are gone."""


def open_store(output: str | Path, scratch: str | Path) -> OutputStore:
    """The outputs' place.

    Args:
        output: path or URL.
        scratch: local folder in which outputs for a URL are made before they go there.
    """
    location = location_of(output)
    return RemoteStore(location, Path(scratch)) if is_url(location) else FolderStore(Path(location))


def hashes(folder: Path, outputs: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Bytes and SHA-256 of the files that these outputs in a slide's folder are, by their paths in it."""
    missing = [name for name in outputs if not (folder / name).exists()]
    if missing:
        raise OutputsGoneError(
            f"{folder}: {', '.join(missing)} went while it was worked on. Does another run work here?"
        )
    files = sorted(path for name in outputs for path in (folder / name, *(folder / name).rglob("*")) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in files
    }


class OutputStore(ABC):
    """Slides' folders, records of what is finished, and parts of slides. A slide counts as finished by its record,
    which comes last.

    Attributes:
        location: the place, path or URL.
        shown: the place, as it may be written down.
        working: local folder in which slides' outputs are made.
    """

    location: str
    shown: str
    working: Path

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """A file of the cohort's own; None if there is none."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Put a file of the cohort's own there, whole."""

    @abstractmethod
    def forget(self, name: str) -> None:
        """Remove a file of the cohort's own."""

    @abstractmethod
    def sizes(self, slide: str) -> dict[str, int]:
        """Bytes of the files in a slide's folder, by their paths in it."""

    @abstractmethod
    def begin(self, slide: str) -> None:
        """A slide is about to be worked on: outputs that are made in their place are vouched for no longer, and those
        that are not what they were are removed."""

    @abstractmethod
    def deliver(self, slide: str, files: Mapping[str, Any]) -> None:
        """Take a slide's finished outputs over from the working folder."""

    @abstractmethod
    def abandon(self, slide: str) -> None:
        """A slide is given up."""

    @abstractmethod
    def put_part(self, name: str, part: Path) -> None:
        """Keep a part of a slide, whole."""

    @abstractmethod
    def part(self, name: str) -> AbstractContextManager[Path]:
        """A context in which a part is a local file."""

    @abstractmethod
    def has_part(self, name: str) -> bool:
        """Whether a part is kept."""

    @abstractmethod
    def drop_parts(self, slide: str) -> None:
        """Remove the parts of a slide."""

    def record(self, slide: str) -> dict[str, Any] | None:
        """What was written down of a finished slide; None if it is not, or its files are no longer what they were."""
        content = self.read(f"{_OWN}/slides/{slide}.json")
        if content is None:
            return None
        files = _files_of_record(content)
        there = self.sizes(slide) if files else {}
        return json.loads(content) if files and all(there.get(path) == size for path, size in files.items()) else None

    def finish(self, slide: str, record: Mapping[str, Any]) -> None:
        """Deliver a slide's outputs, and last write down what vouches for them."""
        self.deliver(slide, record["files"])
        self.write(f"{_OWN}/slides/{slide}.json", _as_json(record))

    def keep_settings(self, settings: Mapping[str, Any]) -> str:
        """Write down once what many records refer to; gives what they refer to it by."""
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
        """What :meth:`keep_settings` wrote down."""
        return json.loads(self.read(f"{_OWN}/settings/{digest}.json") or b"{}")


class FolderStore(OutputStore):
    """A folder that all workers see."""

    def __init__(self, folder: Path) -> None:
        self.location = self.shown = str(folder)
        self.working = folder

    def read(self, name: str) -> bytes | None:
        try:
            return (self.working / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        with atomic_write(self.working / name) as partial:
            partial.write_bytes(content)

    def forget(self, name: str) -> None:
        (self.working / name).unlink(missing_ok=True)

    def sizes(self, slide: str) -> dict[str, int]:
        folder = self.working / slide
        return {
            path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()
        }

    def begin(self, slide: str) -> None:
        name = f"{_OWN}/slides/{slide}.json"
        files = _files_of_record(self.read(name))
        there = self.sizes(slide) if files else {}
        for output in {path.partition("/")[0] for path, size in files.items() if there.get(path) != size}:
            remove(self.working / slide / output)
        self.forget(name)

    def deliver(self, slide: str, files: Mapping[str, Any]) -> None:
        pass  # They were made in their place.

    def abandon(self, slide: str) -> None:
        pass  # What was begun is where the same command goes on from.

    def put_part(self, name: str, part: Path) -> None:
        target = self._part(name)
        with atomic_write(target) as partial:
            part.replace(partial)

    @contextmanager
    def part(self, name: str) -> Iterator[Path]:
        yield self._part(name)

    def has_part(self, name: str) -> bool:
        return self._part(name).exists()

    def drop_parts(self, slide: str) -> None:
        remove(self.working / _OWN / "parts" / slide)

    def _part(self, name: str) -> Path:
        return self.working / _OWN / "parts" / name


class RemoteStore(OutputStore):
    """A URL that fsspec writes to. On object stores a file appears whole or not at all; elsewhere it is renamed when it
    is whole.

    Raises:
        ValueError: it cannot be written to.
    """

    def __init__(self, url: str, scratch: Path) -> None:
        if not lists_files(url):
            raise ValueError(f"{shown(url)}: outputs cannot be written there. Name a folder, or s3://, gs://, …")
        self.location = url.rstrip("/")
        self.shown = shown(self.location)
        self.working = scratch / hashlib.sha256(utf8(self.location)).hexdigest()[:16]
        self._files, self._root = filesystem(self.location)
        # Of what is on its way: no other worker's, and the same when it is tried again.
        self._me = uuid.uuid4().hex[:8]

    def read(self, name: str) -> bytes | None:
        try:
            return self._patiently(lambda: self._files.cat_file(f"{self._root}/{name}"), name)
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        self.working.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self.working, prefix=PARTIAL) as folder:
            kept = Path(folder) / "content"
            kept.write_bytes(content)
            self.publish(name, kept)

    def forget(self, name: str) -> None:
        def forgotten() -> None:
            try:
                self._files.rm_file(f"{self._root}/{name}")
            except FileNotFoundError:
                return

        self._patiently(forgotten, name)

    def publish(self, name: str, content: Path) -> None:
        """Put a local file there, whole."""
        self._patiently(lambda: self._put(content, name), name)

    def sizes(self, slide: str) -> dict[str, int]:
        folder = f"{self._root}/{slide}"
        found = self._patiently(lambda: self._find(folder), slide)
        return {path.removeprefix(folder).lstrip("/"): int(info["size"]) for path, info in found.items()}

    def begin(self, slide: str) -> None:
        pass  # What is there stays until it is replaced.

    def deliver(self, slide: str, files: Mapping[str, Any]) -> None:
        before = self.sizes(slide)
        # What vouched for other files goes first.
        self.forget(f"{_OWN}/slides/{slide}.json")
        if SUMMARY in before:
            self.forget(f"{slide}/{SUMMARY}")
        # Beside the outputs there may be others' files, and outputs of before that are not made again.
        outputs = {path.partition("/")[0] for path in files}
        for path in [path for path in before if path.partition("/")[0] in outputs and path not in files]:
            self.forget(f"{slide}/{path}")
        for path in sorted(files, key=_late):
            self.publish(f"{slide}/{path}", self.working / slide / path)
        remove(self.working / slide)

    def abandon(self, slide: str) -> None:
        remove(self.working / slide)

    def put_part(self, name: str, part: Path) -> None:
        self.publish(f"{_OWN}/parts/{name}", part)

    @contextmanager
    def part(self, name: str) -> Iterator[Path]:
        self.working.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self.working, prefix=PARTIAL) as folder:
            local = Path(folder) / "part.zip"
            self._patiently(lambda: self._files.get_file(f"{self._root}/{_OWN}/parts/{name}", str(local)), name)
            yield local

    def has_part(self, name: str) -> bool:
        return self._patiently(lambda: self._files.exists(f"{self._root}/{_OWN}/parts/{name}"), name)

    def drop_parts(self, slide: str) -> None:
        folder = f"{self._root}/{_OWN}/parts/{slide}"
        for path in self._patiently(lambda: self._find(folder), slide):
            self.forget(path.removeprefix(self._root).lstrip("/"))

    def _patiently(self, call: Callable[[], Any], name: str) -> Any:
        return patiently(call, f"{self.shown}/{name}")

    def _find(self, folder: str) -> dict[str, Any]:
        try:
            return self._files.find(folder, detail=True)
        except FileNotFoundError:
            return {}

    def _put(self, local: Path, name: str) -> None:
        target = f"{self._root}/{name}"
        if puts_whole(self.location):
            self._files.put_file(str(local), target)
        else:
            folder, _, last = target.rpartition("/")
            self._files.makedirs(folder, exist_ok=True)
            partial = f"{folder}/{PARTIAL}{self._me}-{last}"
            self._files.put_file(str(local), partial)
            self._files.mv(partial, target)
        there, here = self._files.info(target)["size"], local.stat().st_size
        if there != here:
            raise OSError(f"{self.shown}/{name}: {there} bytes are there of {here}")


def _late(path: str) -> tuple[bool, bool, int, str]:
    """Order in which files go to their place: the summary last; of an array on disk, what makes it one."""
    return path == SUMMARY, path.endswith("zarr.json"), -path.count("/"), path


def _files_of_record(content: bytes | None) -> dict[str, int]:
    """Bytes of each file that a record vouches for; of one that is no record, none."""
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
