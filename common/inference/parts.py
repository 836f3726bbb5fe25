"""Finished blocks of one slide, carried from the machine that predicted them to the one that puts them together.

A block is one chunk of each map on disk: a part is a zip of such chunks with the log of the finished ones.
"""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

from ..errors import UnreadableFileError
from ..files import atomic_write, remove, write_json
from ..settings import SettingsError, check_same, differences
from .progress_log import DONE, SETTINGS, add_done, stored_settings

# A map's metadata, or one of its chunks, whose numbers are its place.
_MEMBER = re.compile(r"[a-z]+\.zarr/(zarr\.json|c(/\d+)+)")


def pack_part(unfinished: Path, part: Path) -> Path:
    """Write a part: what a folder of maps and their progress log holds. Return its path."""
    files = [path for path in sorted(unfinished.rglob("*")) if path.is_file()]
    with atomic_write(part) as partial, zipfile.ZipFile(partial, "w") as archive:
        # The chunks are compressed already.
        for path in files:
            archive.write(path, path.relative_to(unfinished).as_posix())
    return part


def adopt_part(part: Path, unfinished: Path, overwrite: bool = False) -> None:
    """Put a part's blocks where those of its slide are collected, and log them.

    Args:
        part: as :func:`pack_part` wrote it.
        unfinished: the folder, which may hold other blocks of the slide.
        overwrite: of other settings, they are removed.

    Raises:
        SettingsError: its blocks are of other settings than those that are there.
        UnreadableFileError: it is damaged.
    """
    known, before = unfinished / SETTINGS, stored_settings(unfinished)
    try:
        with zipfile.ZipFile(part) as archive:
            settings = json.loads(archive.read(SETTINGS))
            if before is not None and not overwrite:
                check_same(unfinished, before, settings)
            if before is None or differences(before, settings):
                # Maps without settings are of no one knows what.
                remove(unfinished)
            for name in archive.namelist():
                # One metadata file is as another; overwritten in place, it could be left cut off.
                if _MEMBER.fullmatch(name) and not (name.endswith("zarr.json") and (unfinished / name).exists()):
                    archive.extract(name, unfinished)
            if not known.exists():
                write_json(known, settings)
            ticked = archive.read(DONE).decode("ascii") if DONE in archive.namelist() else ""
    except SettingsError:
        raise
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise UnreadableFileError(
            part, f"no part of a slide, or damaged ({error})", "Remove it: it is made again"
        ) from error
    # Last: what is not logged does not count.
    add_done(unfinished, ticked)
