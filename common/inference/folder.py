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
# Seconds in which a lock is tried several times.
_LOCK_SECONDS = 0.2
# Outputs that are being made; outputs that are whole, before and after what they replace is removed.
_STAGED, _REPLACING, _FINISHED = f"{PARTIAL}outputs", ".replacing", ".finished"


class FolderInUseError(Exception):
    """Another process is at work in a slide's folder."""


class SlideFolder:
    """The folder that a slide's outputs go to.

    Attributes:
        path: the folder.
        unfinished: where maps and progress log are while the slide is worked on.
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
            # The holder removes the file before it lets go of it. A lock of a removed file does not count: filelock
            # drops it, and tries again within the time.
            lock.acquire(timeout=_LOCK_SECONDS, poll_interval=_LOCK_SECONDS / 4)
        except Timeout as error:
            message = f"{self.path}: another process is at work here. Wait for it, or choose another output folder"
            raise FolderInUseError(message) from error
        try:
            # What a killed run was writing or removing.
            for left in self.path.glob(f"{PARTIAL}*"):
                remove(left)
            self._publish()
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

    @contextmanager
    def written(self, replace: bool) -> Iterator[Path]:
        """Give a hidden folder to write outputs to, and move them to their places once all are whole.

        If one of them fails, none is kept, and earlier outputs stay as they were. A run that is killed while they are
        moved leaves the rest to the next one.

        Args:
            replace: remove all earlier outputs; else the new ones are added to them.
        """
        staged = self.path / _STAGED
        staged.mkdir()
        try:
            yield staged
            staged.replace(self.path / (_REPLACING if replace else _FINISHED))
        finally:
            remove(staged)
            try:
                self._publish()
            except BaseException:
                # An interruption must not leave outputs without their summary until the next run.
                self._publish()
                raise

    def _publish(self) -> None:
        """Move whole outputs to their places, from whichever step an earlier call reached; the summary last."""
        replacing, finished = self.path / _REPLACING, self.path / _FINISHED
        if replacing.exists():
            for name in (SUMMARY, *OUTPUTS):
                remove(self.path / name)
            replacing.replace(finished)
        if not finished.exists():
            return
        for path in sorted(finished.iterdir(), key=lambda path: path.name == SUMMARY):
            place = self.path / path.name
            if place.is_dir():
                remove(place)
            path.replace(place)
        finished.rmdir()

    def discard_unfinished(self) -> None:
        """Remove maps and progress log."""
        remove(self.unfinished)
