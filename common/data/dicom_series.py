"""DICOM slides, whose magnifications are files of their own: the instances of one series in one folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import openslide

_SUFFIX = ".dcm"


def one_file_per_slide(paths: Iterable[Path]) -> list[Path]:
    """Return paths of slides with, of several instances of one DICOM slide, only the first.

    OpenSlide finds the others, which lie in the same folder.
    """
    listed = list(paths)
    instances = Counter(path.parent for path in listed if _is_dicom(path))
    seen: set[tuple[Path, str]] = set()
    kept = []
    for path in listed:
        series = _series(path) if _is_dicom(path) and instances[path.parent] > 1 else None
        if series is not None and (path.parent, series) in seen:
            continue
        if series is not None:
            seen.add((path.parent, series))
        kept.append(path)
    return kept


def slides_of_folder(folder: Path) -> list[Path]:
    """Return an instance of each DICOM slide that lies in a folder; none for a folder without DICOM files or
    one that may not be listed."""
    try:
        listed = sorted(folder.iterdir())
    except OSError:
        # Opening the folder as a slide says that it is none, and the other slides are read.
        return []
    return one_file_per_slide(path for path in listed if _is_dicom(path) and path.is_file())


def _is_dicom(path: Path) -> bool:
    return path.suffix.lower() == _SUFFIX and not path.name.startswith(".")


def _series(path: Path) -> str | None:
    """Return the UID of an instance's series; None if it cannot be read, which is told when the slide is opened."""
    return _series_by_openslide(path) if find_spec("pydicom") is None else series_uid(path)


def series_uid(file: Any) -> str | None:
    """Return the UID of the series that a file (path, or open for reading) says it is of; None if it cannot be read."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        found = dcmread(file, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
    except (InvalidDicomError, OSError, ValueError, KeyError, EOFError):
        return None
    return str(found.get("SeriesInstanceUID", "")) or None


def _series_by_openslide(path: Path) -> str | None:
    """Return the same; slower, as OpenSlide looks at all files of the folder each time."""
    try:
        with openslide.OpenSlide(path) as slide:
            return slide.properties.get("dicom.SeriesInstanceUID")
    except (openslide.OpenSlideError, OSError):
        return None
