"""Open the slide of a datalist entry.

Only this file knows which fields of an entry decide how its slide is read. All code that opens an entry's slide, or
caches results made of its pixels, asks here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .files import slide_state
from .slide import Slide, open_slide, parse_series, slide_name

# Arguments of open_slide that an entry may hold.
READ_OPTIONS = ("backend", "mpp", "series")


def read_options(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of :func:`open_slide` that an entry holds."""
    return {name: entry[name] for name in READ_OPTIONS if entry.get(name) is not None}


def open_entry(entry: Mapping[str, Any]) -> Slide:
    """Open the slide of an entry: ``image``, with its ``backend``, ``mpp`` and ``series`` if it has them.

    Raises:
        SlideError: see :func:`open_slide`.
    """
    return open_slide(entry["image"], **read_options(entry))


def image_and_series(entry: Mapping[str, Any]) -> tuple[str, int | None]:
    """Return the file of an entry's slide and the number of the image in it; None if the entry does not choose one."""
    series = entry.get("series")
    return str(entry["image"]), None if series is None else parse_series(series)


def slide_keys(entries: Iterable[Mapping[str, Any]]) -> list[tuple[str, int | None]]:
    """Return a key for each entry, equal for entries of one slide.

    Different series of a file are different slides. The image of an entry without a series is known only when the file
    is opened, so if a file has such an entry, all entries of the file count as one slide.
    """
    images = [image_and_series(entry) for entry in entries]
    whole = {path for path, series in images if series is None}
    return [(path, None if path in whole else series) for path, series in images]


def pixel_fingerprint(entry: Mapping[str, Any]) -> list[Any]:
    """Return everything that decides the pixels of an entry's slide, for cache keys.

    That is the size and newest modification time of its files, and how it is read.
    """
    state = slide_state(entry["image"])
    series = image_and_series(entry)[1]
    # An entry without a series keeps the fingerprint that it had before there were any.
    later = [] if series is None else [series]
    return [state.size, state.modified, entry.get("mpp"), entry.get("backend"), *later]


def file_name(entry: Mapping[str, Any]) -> str:
    """Return the name of an entry's file for tables and messages, with the number of its image if it chooses one."""
    path, series = image_and_series(entry)
    return Path(path).name if series is None else f"{Path(path).name}, series {series}"


def entry_name(entry: Mapping[str, Any], name: str | None = None) -> str:
    """Return the name of an entry's slide, with the number of its image if it chooses one.

    Several images of a file are several slides, and need different names.

    Args:
        entry: the entry.
        name: name of the slide; its file's by default.
    """
    path, series = image_and_series(entry)
    plain = slide_name(path) if name is None else name
    return plain if series is None else f"{plain}-series{series}"
