"""Recognise DICOM slides: each magnification is a file, an instance of one series in one folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import openslide

_SUFFIX = ".dcm"


def one_file_per_slide(paths: Iterable[Path]) -> list[Path]:
    """Return paths with only the first of several instances of one DICOM slide.

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
    """Return an instance of each DICOM slide in a folder; nothing if the folder has none or is not readable."""
    try:
        listed = sorted(folder.iterdir())
    except OSError:
        # The error comes when the folder is opened as a slide, so that the other slides are read.
        return []
    return one_file_per_slide(path for path in listed if _is_dicom(path) and path.is_file())


def _is_dicom(path: Path) -> bool:
    return path.suffix.lower() == _SUFFIX and not path.name.startswith(".")


def _series(path: Path) -> str | None:
    """Return the UID of an instance's series; None if it cannot be read, which fails later when the slide is opened."""
    return _series_by_openslide(path) if find_spec("pydicom") is None else series_uid(path)


def series_uid(file: Any) -> str | None:
    """Return the UID of a file's series; None if it cannot be read.

    Args:
        file: path, or file open for reading.
    """
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        header = dcmread(file, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
    except (InvalidDicomError, OSError, ValueError, KeyError, EOFError):
        return None
    return str(header.get("SeriesInstanceUID", "")) or None


def _series_by_openslide(path: Path) -> str | None:
    """Return the same without pydicom; slower, as OpenSlide reads all files of the folder each time."""
    try:
        with openslide.OpenSlide(path) as slide:
            return slide.properties.get("dicom.SeriesInstanceUID")
    except (openslide.OpenSlideError, OSError):
        return None
