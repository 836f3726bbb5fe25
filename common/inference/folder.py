"""A slide's output folder: its lock, its finished outputs and its unfinished ones."""

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

_WORK, _LOCK = ".unfinished", ".lock"
# Seconds during which a lock is tried several times.
_LOCK_SECONDS = 0.2
# Outputs that are being written; complete outputs, before and after the ones that they replace are removed.
_STAGED, _REPLACING, _FINISHED = f"{PARTIAL}outputs", ".replacing", ".finished"


class FolderInUseError(Exception):
    """Another process works in a slide's folder."""


class SlideFolder:
    """The folder that a slide's outputs go to.

    Attributes:
        path: the folder.
        work: folder in it that holds maps and progress log until the slide is finished.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.work = path, path / _WORK

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes out. The lock ends with the process that holds it.

        Raises:
            FolderInUseError: another process holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / _LOCK)
        try:
            # The holder removes the file before it releases the lock. A lock on a removed file does not count: filelock
            # drops it and tries again within the time.
            lock.acquire(timeout=_LOCK_SECONDS, poll_interval=_LOCK_SECONDS / 4)
        except Timeout as error:
            message = f"{self.path}: another process is at work here. Wait for it, or choose another output folder"
            raise FolderInUseError(message) from error
        try:
            # A killed run leaves what it was writing or removing.
            for leftover in self.path.glob(f"{PARTIAL}*"):
                remove(leftover)
            self._publish()
            yield
        finally:
            (self.path / _LOCK).unlink(missing_ok=True)
            lock.release()

    def summary(self, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the summary of the slide's finished outputs, or None if there is none.

        Raises:
            SettingsError: the outputs were made with other settings, or no one can tell.
            OutputError: an output is not as long as when it was written.
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
        """Return those of some outputs that the folder does not hold."""
        return tuple(name for name in outputs if not (self.path / name).exists())

    @contextmanager
    def written(self, replace: bool) -> Iterator[Path]:
        """Yield a hidden folder to write outputs to, and move them to their places once all are complete.

        If one of them fails, none is kept and earlier outputs stay unchanged. If the run is killed while they are
        moved, the next one moves the rest.

        Args:
            replace: remove all earlier outputs; otherwise the new ones are added to them.
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
        """Move complete outputs to their places, the summary last. Resumes at the step that an earlier call reached."""
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

    def discard_work(self) -> None:
        """Remove maps and progress log."""
        remove(self.work)
