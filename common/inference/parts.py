"""Parts of a slide: its finished blocks, packed on the machine that predicted them and unpacked where they are joined.

A block is one chunk of each map on disk. A part is a zip of such chunks with the log of the finished ones.
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

# A map's metadata, or one of its chunks, whose numbers are its position.
_MEMBER = re.compile(r"[a-z]+\.zarr/(zarr\.json|c(/\d+)+)")


def pack_part(work: Path, part: Path) -> Path:
    """Write a folder of maps and progress log as a part. Return the part's path."""
    files = [path for path in sorted(work.rglob("*")) if path.is_file()]
    with atomic_write(part) as partial, zipfile.ZipFile(partial, "w") as archive:
        # The chunks are compressed already.
        for path in files:
            archive.write(path, path.relative_to(work).as_posix())
    return part


def adopt_part(part: Path, work: Path, overwrite: bool = False) -> None:
    """Add a part's blocks to the folder where the blocks of its slide are collected, and log them.

    Args:
        part: a file that :func:`pack_part` wrote.
        work: folder of maps and progress log, which may hold other blocks of the slide.
        overwrite: remove blocks of other settings that the folder holds.

    Raises:
        SettingsError: the folder holds blocks of other settings.
        UnreadableFileError: the part is damaged.
    """
    known, before = work / SETTINGS, stored_settings(work)
    try:
        with zipfile.ZipFile(part) as archive:
            settings = json.loads(archive.read(SETTINGS))
            if before is not None and not overwrite:
                check_same(work, before, settings)
            if before is None or differences(before, settings):
                # Maps without settings may be of any slide.
                remove(work)
            for name in archive.namelist():
                # Metadata is the same in every part; overwritten in place, it could be left truncated.
                if _MEMBER.fullmatch(name) and not (name.endswith("zarr.json") and (work / name).exists()):
                    archive.extract(name, work)
            if not known.exists():
                write_json(known, settings)
            logged = archive.read(DONE).decode("ascii") if DONE in archive.namelist() else ""
    except SettingsError:
        raise
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise UnreadableFileError(
            part, f"no part of a slide, or damaged ({error})", "Remove it: it is made again"
        ) from error
    # Last: blocks that are not logged do not count.
    add_done(work, logged)
