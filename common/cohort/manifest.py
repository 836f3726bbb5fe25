"""The list of a cohort's slides."""

from __future__ import annotations

import glob
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data import check_entries, merge_by_slide, output_names
from ..data.datalist import DICOM_FOLDER, in_dicom_folder, once_per_series, slides_at, with_defaults, with_numbers
from ..data.tables import rows_of, text_of
from ..files import same_name
from ..slides import slide_name
from .dicom import first_instances, slides_of_remote_folder
from .locations import filesystem, folder_of, is_listable, is_url, name_of, redact_url, resolve_location
from .retry import retry

_LIST_SUFFIXES = (".json", ".csv", ".txt")
# Names of the cohort's own files, next to the slides' folders.
_RESERVED_NAMES = ("cohort.csv", "cohort.json", "manifest.sha256")


@dataclass(frozen=True)
class CohortSlide:
    """A slide of a cohort.

    Attributes:
        name: name of its output folder.
        location: path or URL.
        entry: further fields of its datalist entry: ``mpp``, ``series``, ``backend``, ``regions``, …
    """

    name: str
    location: str
    entry: Mapping[str, Any]


def read_manifest(
    slides: str | Path | Sequence[str | Path],
    section: str = "testing",
    name_by: str | None = None,
    mpp: float | None = None,
    series: int | None = None,
) -> list[CohortSlide]:
    """Return the slides that a manifest lists.

    Args:
        slides: a datalist (``.json``), a table (``.csv`` with a column ``image``), a list (``.txt``, one slide per
            line), a slide, a glob, or several of these. Each, and each listed slide, is a path or a URL; those of
            slides may be relative to the list.
        section: section of datalists.
        name_by: column that names the output folders; the file's name by default.
        mpp: µm per pixel of slides whose entry has none; it overrides the file's own value.
        series: number of the image in the file, for slides whose entry has none.

    Raises:
        ValueError: a list is missing or empty, or two slides would share a folder; the message names them.
    """
    listed = [slides] if isinstance(slides, str | Path) else list(slides)
    entries = [entry for one in listed for entry in _entries(resolve_location(one), section)]
    if not entries:
        raise ValueError("no slides given: name a datalist, a table, a slide or a glob")
    merged = merge_by_slide(with_defaults(_once_per_series(entries), mpp, series))
    found: list[CohortSlide] = []
    for entry, name in zip(merged, _names(merged, name_by), strict=True):
        location = entry["image"]
        rest = {key: value for key, value in entry.items() if key != "image"}
        found.append(CohortSlide(name, location, rest))
    return found


def _once_per_series(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the entries with one file per DICOM slide."""
    local = {id(entry) for entry in once_per_series([one for one in entries if not is_url(one["image"])])}
    remote = set(first_instances([entry["image"] for entry in entries if is_url(entry["image"])]))
    return [entry for entry in entries if entry["image"] in remote or id(entry) in local]


def _names(entries: Sequence[Mapping[str, Any]], name_by: str | None) -> list[str]:
    """Return the names of the slides' output folders."""
    named = [{**entry, "image": redact_url(entry["image"])} for entry in entries]
    names = output_names(named, name_by, lambda location: slide_name(name_of(location)))
    for entry, name in zip(named, names, strict=True):
        if same_name(name) in _RESERVED_NAMES:
            raise ValueError(f"{entry['image']}: {name!r} cannot be the name of its output folder. Choose name_by")
    return names


def _entries(location: str, section: str) -> list[dict[str, Any]]:
    suffix = Path(name_of(location)).suffix.lower()
    if suffix not in _LIST_SUFFIXES:
        return [entry for path in _expand_glob(location) for entry in _slides_at(path)]
    text, folder = _read_text(location), folder_of(location)
    if suffix == ".json":
        entries = _parse_datalist(text, location, section)
    elif suffix == ".csv":
        entries = _parse_table(text, location)
    else:
        entries = [{"image": line.strip()} for line in text.splitlines() if line.strip()]
    if not entries:
        raise ValueError(f"{redact_url(location)}: lists no slides")
    return [_resolve_dicom_folder({**entry, "image": resolve_location(entry["image"], folder)}) for entry in entries]


def _slides_at(location: str) -> list[dict[str, Any]]:
    if not is_url(location):
        return slides_at(location)
    slides = slides_of_remote_folder(location)
    if len(slides) > 1:
        return [{"image": slide} for slide in slides]
    return [_resolve_dicom_folder({"image": location})]


def _resolve_dicom_folder(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the entry; if its image is the folder of a DICOM slide, with one of the slide's files as image."""
    location = entry["image"]
    if not is_url(location):
        return in_dicom_folder(entry)
    slides = slides_of_remote_folder(location)
    if len(slides) > 1:
        raise ValueError(f"{redact_url(location)}: {len(slides)} DICOM slides lie in it. Name a file of one of them")
    folder = name_of(location.rstrip("/"))
    return {**entry, "image": slides[0], DICOM_FOLDER: folder} if slides else entry


def _read_text(location: str) -> str:
    try:
        if not is_url(location):
            return text_of(Path(location).read_bytes())
        files, path = filesystem(location)
        return text_of(retry(lambda: files.cat_file(path), redact_url(location)))
    except FileNotFoundError as error:
        raise ValueError(f"{redact_url(location)}: no such file. Name a datalist, a table or slides") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{redact_url(location)}: not UTF-8 ({error}). Save it as such") from error


def _parse_datalist(text: str, location: str, section: str) -> list[dict[str, Any]]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{redact_url(location)}: not JSON ({error})") from error
    return [dict(entry) for entry in check_entries(content, redact_url(location), section, require_label=False)]


def _parse_table(text: str, location: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number, row in rows_of(text, ("image", "mpp", "series", "regions")):
        entry: dict[str, Any] = {key: value for key, value in row.items() if value}
        if "image" not in entry:
            raise ValueError(f'{redact_url(location)}: line {number} has no slide in a column "image"')
        entry = with_numbers(entry, f"{redact_url(location)}: line {number}")
        if "regions" in entry:
            try:
                entry["regions"] = json.loads(entry["regions"])
            except ValueError as error:
                raise ValueError(f"{redact_url(location)}: line {number}: regions: no JSON ({error})") from error
        found.append(entry)
    return found


def _expand_glob(location: str) -> list[str]:
    """Return the slides that a glob matches, or the location itself if it is none."""
    if is_url(location):
        if not (is_listable(location) and glob.has_magic(location)):
            return [location]
        files, path = filesystem(location)
        found = sorted(files.unstrip_protocol(match) for match in files.glob(path))
    elif glob.has_magic(location) and not Path(location).exists():
        found = sorted(glob.glob(location, recursive=True))
    else:
        return [location]
    if not found:
        raise ValueError(f"no slide matches {redact_url(location)!r}")
    return found
