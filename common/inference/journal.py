"""What is finished of a slide, so that the same command goes on where it was stopped."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import write_json, written_whole

logger = logging.getLogger(__name__)

SETTINGS, DONE = "settings.json", "blocks.txt"
# Top, left and checksum of a block.
_TICK = re.compile(r"(\d{1,12}) (\d{1,12}) ([0-9a-f]{8})")


class SettingsError(ValueError):
    """A folder holds results of other settings than those asked for."""


class Journal:
    """Blocks finished so far, beside the arrays that hold them.

    A block is ticked off after its pixels are written, with their checksum; a run killed in between writes it again.
    The arrays' own writing order needs no care: what is not ticked off, or is not what was ticked off, does not count.

    Args:
        folder: where the journal is, or begins.
        settings: everything that the result depends on, as JSON holds it.
        overwrite: begin anew where the settings differ.

    Attributes:
        resumed: whether there is one to go on from. If not, what was there no longer counts.

    Raises:
        SettingsError: blocks were finished with other settings; names each difference.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], overwrite: bool = False) -> None:
        self.folder, self._settings = folder, settings
        self._path = folder / DONE
        stored = folder / SETTINGS
        before = self._stored()
        self.resumed = before is not None
        if before is not None:
            try:
                check_same(folder, before, settings)
            except SettingsError:
                if not overwrite and self._path.exists():
                    raise
                self.resumed = False
                # Before the arrays are begun anew: they no longer hold what was ticked off.
                stored.unlink()

    def _stored(self) -> dict[str, Any] | None:
        """Return the settings of the blocks that are there, None if there are none or no one can tell."""
        path = self.folder / SETTINGS
        if not path.exists():
            return None
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            stored = None
        if not isinstance(stored, dict):
            self.give_up(f"{path} is damaged")
            return None
        return stored

    def give_up(self, reason: str) -> None:
        """Let what is there no longer count."""
        logger.warning("%s: the slide is started over", reason)
        (self.folder / SETTINGS).unlink(missing_ok=True)
        self.resumed = False

    def begin(self) -> dict[tuple[int, int], int]:
        """Write down the settings, once the arrays are there; gives the checksums of the blocks ticked off before, by
        their top and left."""
        if not self.resumed:
            self._path.unlink(missing_ok=True)
            write_json(self.folder / SETTINGS, self._settings)
            return {}
        ticks = (line.split() for line in add_ticks(self.folder, "").splitlines())
        return {(int(top), int(left)): int(checksum, 16) for top, left, checksum in ticks}

    def tick(self, top: int, left: int, checksum: int) -> None:
        """A block is written."""
        with self._path.open("a", encoding="ascii") as file:
            file.write(f"{top} {left} {checksum:08x}\n")


def add_ticks(folder: Path, lines: str) -> str:
    """Tick further blocks off, as :data:`DONE` has them; gives all lines."""
    path = folder / DONE
    text = path.read_text(encoding="ascii", errors="replace") if path.exists() else ""
    # A line that a kill cut off does not count, and must not run into the next one.
    written = text[: text.rfind("\n") + 1].splitlines()
    ticks = [line for line in written if _TICK.fullmatch(line)]
    if len(ticks) < len(written):
        logger.warning("%s is damaged: blocks of %d of its lines are predicted again", path, len(written) - len(ticks))
    whole = "".join(f"{line}\n" for line in ticks) + lines
    with written_whole(path) as partial:
        partial.write_text(whole, encoding="ascii")
    return whole


def check_same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise :class:`SettingsError` if two settings differ."""
    found = differences(before, now)
    if found:
        raise SettingsError(
            f"{folder} holds the result of other settings: {'; '.join(found)}. Choose another output folder, or start "
            "over with --overwrite True"
        )


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Where two settings differ, a sentence each."""
    then, here = _flat(before), _flat(json.loads(json.dumps(now)))
    return [
        f"{key} is {_shown(then, key)} there, {_shown(here, key)} now"
        for key in dict.fromkeys([*then, *here])
        if then.get(key) != here.get(key) or (key in then) != (key in here)
    ]


def _shown(flat: Mapping[str, Any], key: str) -> str:
    return repr(flat[key]) if key in flat else "not set"


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        items = [(f"{name}.{key}" if name else str(key), part) for key, part in value.items()]
    elif isinstance(value, list):
        items = [(f"{name}[{number}]", part) for number, part in enumerate(value)]
    else:
        return {name: value}
    return {key: found for part_name, part in items for key, found in _flat(part, part_name).items()}
