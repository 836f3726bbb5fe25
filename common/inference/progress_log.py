"""The log of a slide's finished blocks, by which the same command resumes an interrupted slide."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import atomic_write, write_json
from ..settings import SettingsError, check_same

logger = logging.getLogger(__name__)

SETTINGS, DONE = "settings.json", "blocks.txt"
# Top, left and checksum of a block.
_DONE_LINE = re.compile(r"(\d{1,12}) (\d{1,12}) ([0-9a-f]{8})")
# Version 1 logged no checksums.
_EARLIER_LINE = re.compile(r"\d{1,12} \d{1,12}")


class ProgressLog:
    """A log of the finished blocks, in the folder of the maps that hold them.

    A block is logged after its pixels are written, with their checksum. A run that is killed in between predicts it
    again. Map chunks may be written in any order: a block that is not logged, or whose pixels have another checksum,
    does not count.

    Args:
        folder: folder of the maps; the log is created or resumed there.
        settings: everything that the result depends on, as JSON holds it.
        overwrite: start over if the settings differ.

    Attributes:
        resumed: whether there are blocks to resume from. If not, logged ones no longer count.

    Raises:
        SettingsError: blocks were finished with other settings. The message names each difference.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], overwrite: bool = False) -> None:
        self.folder, self._settings = folder, settings
        self._path = folder / DONE
        stored = folder / SETTINGS
        before = stored_settings(folder)
        self.resumed = before is not None
        if before is not None:
            try:
                check_same(folder, before, settings)
            except SettingsError:
                if not overwrite and self._path.exists():
                    raise
                self.resumed = False
                # Before new maps replace those that hold the logged blocks.
                stored.unlink()

    def give_up(self, reason: str) -> None:
        """Discard the logged blocks, with a warning."""
        _discard(self.folder, reason)
        self.resumed = False

    def begin(self) -> dict[tuple[int, int], int]:
        """Write the settings, once the maps exist, and return the checksums of the logged blocks by top and left."""
        if not self.resumed:
            self._path.unlink(missing_ok=True)
            write_json(self.folder / SETTINGS, self._settings)
            return {}
        blocks = (line.split() for line in add_done(self.folder, "").splitlines())
        return {(int(top), int(left)): int(checksum, 16) for top, left, checksum in blocks}

    def mark_done(self, top: int, left: int, checksum: int) -> None:
        """Log a block whose pixels are written."""
        with self._path.open("a", encoding="ascii") as file:
            file.write(f"{top} {left} {checksum:08x}\n")


def stored_settings(folder: Path) -> dict[str, Any] | None:
    """Return the settings of the blocks logged in a folder; None if there are none or, with a warning, if the file is
    damaged."""
    path = folder / SETTINGS
    if not path.exists():
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        stored = None
    if not isinstance(stored, dict):
        _discard(folder, f"{path} is damaged")
        return None
    return stored


def _discard(folder: Path, reason: str) -> None:
    logger.warning("%s: the slide is started over", reason)
    (folder / SETTINGS).unlink(missing_ok=True)


def add_done(folder: Path, lines: str) -> str:
    """Append lines to a folder's log and return all of its lines. Damaged lines, and those of an earlier version, are
    dropped with a warning."""
    path = folder / DONE
    text = path.read_text(encoding="ascii", errors="replace") if path.exists() else ""
    # A line that a kill cut off does not count and must not merge with the next one.
    written = text[: text.rfind("\n") + 1].splitlines()
    blocks = [line for line in written if _DONE_LINE.fullmatch(line)]
    earlier = sum(_EARLIER_LINE.fullmatch(line) is not None for line in written)
    if earlier:
        logger.warning("%s: %d lines are of an earlier version: their blocks are predicted again", path, earlier)
    damaged = len(written) - len(blocks) - earlier
    if damaged:
        logger.warning("%s is damaged: blocks of %d of its lines are predicted again", path, damaged)
    whole = "".join(f"{line}\n" for line in blocks) + lines
    with atomic_write(path) as partial:
        partial.write_text(whole, encoding="ascii")
    return whole
