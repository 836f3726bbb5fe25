"""A slide's output folder: who works in it, what it holds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..errors import OutputError
from ..files import PARTIAL, remove
from ..outputs.writer import OUTPUTS, SUMMARY
from ..settings import SettingsError, check_same

_UNFINISHED, _LOCK = ".unfinished", ".lock"


class FolderInUseError(Exception):
    """Another process is at work in a slide's folder."""


class SlideFolder:
    """The folder that a slide's outputs go to.

    Attributes:
        path: the folder.
        unfinished: where maps and journal are while the slide is worked on.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.unfinished = path, path / _UNFINISHED

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes out; the lock goes with the process that holds it.

        Raises:
            FolderInUseError: another one holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / _LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            message = f"{self.path}: another process is at work here. Wait for it, or choose another output folder"
            raise FolderInUseError(message) from error
        try:
            # What a killed run was writing or removing.
            for left in self.path.glob(f"{PARTIAL}*"):
                remove(left)
            yield
        finally:
            (self.path / _LOCK).unlink(missing_ok=True)
            lock.release()

    def summary(self, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """The summary of the slide's finished outputs; None if there is none.

        Raises:
            SettingsError: they were made with other settings, or no one can tell.
            OutputError: one of them is not as it was written.
        """
        path = self.path / SUMMARY
        if not path.exists():
            return None
        try:
            summary = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            summary = None
        if not isinstance(summary, dict) or not isinstance(summary.get("settings", {}), dict):
            raise SettingsError(
                f"{path} is damaged, so that no one can tell what the outputs were made with. Remove it, and the slide "
                "is segmented again"
            )
        check_same(self.path, summary.get("settings", {}), settings)
        self._check_whole(summary)
        return summary

    def _check_whole(self, summary: Mapping[str, Any]) -> None:
        """Raise :class:`OutputError` if an output is not as long as when it was written."""
        sizes = summary.get("bytes")
        for name, size in sizes.items() if isinstance(sizes, dict) else ():
            path = self.path / name
            if path.is_file() and path.stat().st_size != size:
                raise OutputError(
                    f"{path} has {path.stat().st_size} bytes, and had {size} when it was written: it is cut off, or "
                    "was changed. Move it away, and the same command makes it again"
                )

    def missing(self, outputs: tuple[str, ...]) -> tuple[str, ...]:
        """Those outputs that are not there."""
        return tuple(name for name in outputs if not (self.path / name).exists())

    def clear_outputs(self) -> None:
        """Remove all outputs, first the summary that vouches for them."""
        for name in (SUMMARY, *OUTPUTS):
            remove(self.path / name)

    @contextmanager
    def written(self, replace: bool) -> Iterator[None]:
        """Write outputs within; with ``replace``, in place of all that are there.

        Where that fails none of them is left: without their summary they do not count.
        """
        if replace:
            self.clear_outputs()
        try:
            yield
        except BaseException:
            if replace:
                self.clear_outputs()
            raise

    def discard_unfinished(self) -> None:
        """Remove maps and journal."""
        remove(self.unfinished)
