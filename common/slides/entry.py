"""The slide of a datalist entry.

Only this file knows which fields of an entry decide how its slide is read. Whoever opens an entry's slide, or keeps
what was made of its pixels, asks here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .files import slide_state
from .slide import Slide, open_slide, series_of, slide_name

# The arguments of open_slide that an entry may give.
READ_BY = ("backend", "mpp", "series")


def reading(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return how an entry's slide is read: those arguments of :func:`open_slide` that it gives."""
    return {name: entry[name] for name in READ_BY if entry.get(name) is not None}


def open_entry(entry: Mapping[str, Any]) -> Slide:
    """Open the slide of an entry: ``image``, with ``backend``, ``mpp`` and ``series`` where it has them.

    Raises:
        SlideError: see :func:`open_slide`.
    """
    return open_slide(entry["image"], **reading(entry))


def image_of(entry: Mapping[str, Any]) -> tuple[str, int | None]:
    """Return the file of an entry's slide and which of its images it is; None where the entry does not choose."""
    series = entry.get("series")
    return str(entry["image"]), None if series is None else series_of(series)


def slide_keys(entries: Iterable[Mapping[str, Any]]) -> list[tuple[str, int | None]]:
    """Return a key per entry that is the same for entries of one slide.

    Different series of a file are different slides. Which image an entry without a series shows is known only when the
    file is opened, so where there is one, all entries of its file count as one slide.
    """
    images = [image_of(entry) for entry in entries]
    whole = {path for path, series in images if series is None}
    return [(path, None if path in whole else series) for path, series in images]


def pixels_key(entry: Mapping[str, Any]) -> list[Any]:
    """Return what the pixels of an entry's slide depend on, for keys of caches: its files by their bytes and the
    newest time of change, and how it is read."""
    state = slide_state(entry["image"])
    series = image_of(entry)[1]
    # An entry without a series has the key that it had before there were any.
    later = [] if series is None else [series]
    return [state.size, state.modified, entry.get("mpp"), entry.get("backend"), *later]


def file_name(entry: Mapping[str, Any]) -> str:
    """Return the name of an entry's file for tables and messages, with the number of its image where one is chosen."""
    path, series = image_of(entry)
    return Path(path).name if series is None else f"{Path(path).name}, series {series}"


def entry_name(entry: Mapping[str, Any], name: str | None = None) -> str:
    """Return the name of an entry's slide: its file's, or ``name``, with the number of its image where one is chosen,
    as several images of a file are several slides."""
    path, series = image_of(entry)
    plain = slide_name(path) if name is None else name
    return plain if series is None else f"{plain}-series{series}"
