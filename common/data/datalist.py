"""MONAI's decathlon datalists of slides, and the ways to name slides to segment."""

from __future__ import annotations

import glob
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..literal import as_path
from ..slides import image_and_series, parse_series, slide_keys
from .dicom_series import one_file_per_slide, slides_of_folder
from .tables import parse_mpp, text_of

SECTIONS = ("training", "validation", "testing")
_PATHS = ("image", "label", "pseudo_label")
# The name of the folder that an entry names in place of a DICOM slide's files.
DICOM_FOLDER = "dicom_folder"


def load_datalist(
    path: str | Path, section: str, require_label: bool = True, leave_out: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Read one section of a datalist.

    Args:
        path: a JSON file
            ``{"training": [{"image", "label", "mpp"?, "class_map"?, "label_values"?, …}], "validation": […], …}``;
            relative paths in it are relative to its own folder; a DICOM slide's ``image`` may be the folder of its
            files. ``series`` chooses among a file's images, see :func:`common.slides.open_slide`.
            ``label_channel`` and ``label_pages`` pick a label image's channel and say which page is which class.
            ``origin`` (``"slide"`` or ``"bounds"``) says from where on the slide ``label`` counts; ``regions`` always
            count from the slide's corner. ``cut_out`` (group names of ASAP's XML) lie over all other outlines.
            ``regions`` (``[top, left, height, width]``, level-0 pixels) are the parts that count; ``unannotated``
            (``{"class", "within": "slide" | "tissue" | "region"}``) says what bare pixels are;
            ``pseudo_label``, a ``prediction.tif``, labels the pixels that are still bare. Further columns are kept.
        section: ``"training"``, ``"validation"`` or ``"testing"``.
        require_label: whether every entry must have a label or a class for what is unannotated.
        leave_out: column -> value, or list of values, of the entries to leave out.

    Raises:
        ValueError: the file, the section or a needed field is missing; names it.
    """
    path = Path(path)
    kept = _without(check_entries(_content(path), path, section, require_label), leave_out or {})
    if not kept:
        raise ValueError(f'{path}: leave_out leaves nothing of section "{section}"')
    return [_resolved(item, path.parent) for item in kept]


def check_entries(content: Any, path: str | Path, section: str, require_label: bool = True) -> list[dict[str, Any]]:
    """Return the entries of a section of a datalist's content, paths as they stand there; see :func:`load_datalist`.

    Raises:
        ValueError: the section or a needed field is missing; names it, and ``path``.
    """
    if not isinstance(content, dict) or section not in content:
        held = ", ".join(content) if isinstance(content, dict) else "a list"
        raise ValueError(f'{path}: no section "{section}"; it has {held}')
    items = content[section]
    if not items:
        raise ValueError(f'{path}: section "{section}" is empty. Add slides to it')
    for number, item in enumerate(items):
        if item.get("regions") == []:
            raise ValueError(
                f'{path}: entry {number} of "{section}" has no region in "regions". Leave it out for all of it'
            )
        # Without a label but with a class for what is bare, all of the slide is that class.
        bare = item.get("unannotated", "ignore") == "ignore" and item.get("pseudo_label") is None
        needed = ("image", "label") if require_label and bare else ("image",)
        missing = [key for key in needed if item.get(key) is None]
        if missing:
            raise ValueError(f'{path}: entry {number} of "{section}" has no "{missing[0]}"')
    return [with_numbers(item, f'{path}: entry {number} of "{section}"') for number, item in enumerate(items)]


def with_numbers(item: dict[str, Any], place: str) -> dict[str, Any]:
    """Return an entry with its mpp and series as numbers.

    Args:
        item: the entry; tables hold all as text.
        place: where it stands, for an error.

    Raises:
        ValueError: one of them is none; names it and ``place``.
    """
    numbers: dict[str, Any] = {}
    for name, number_of in (("mpp", parse_mpp), ("series", parse_series)):
        if item.get(name) is None:
            continue
        try:
            numbers[name] = number_of(item[name])
        except ValueError as error:
            raise ValueError(f"{place}: {name}: {error}") from error
    return {**item, **numbers}


def with_defaults(items: Sequence[Mapping[str, Any]], mpp: Any = None, series: Any = None) -> list[dict[str, Any]]:
    """Return entries, those that do not say their mpp or series with the given ones.

    Raises:
        ValueError: one of these is no number.
    """
    given = with_numbers({"mpp": mpp, "series": series}, "given for all slides")
    given = {name: value for name, value in given.items() if value is not None}
    return [{**item, **{name: value for name, value in given.items() if item.get(name) is None}} for item in items]


def _content(path: Path) -> Any:
    try:
        return json.loads(text_of(path.read_bytes()))
    except FileNotFoundError as error:
        as_path(path)  # What a config made of "#" has a reason of its own.
        raise ValueError(f"{path}: no such datalist. Set datalist to a JSON file of slides and labels") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not JSON in UTF-8 ({error}). Save it as UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error


def standard_sections(path: str | Path) -> list[str]:
    """The sections of a datalist that have entries.

    Raises:
        ValueError: there is no such file, or it is not JSON.
    """
    content = _content(Path(path))
    return [section for section in SECTIONS if isinstance(content, dict) and content.get(section)]


def section_names(path: str | Path) -> list[str]:
    """The sections of a datalist that have entries, whatever they are called.

    Raises:
        ValueError: there is no such file, or it is not JSON.
    """
    content = _content(Path(path))
    return [section for section, entries in content.items() if entries] if isinstance(content, dict) else []


def load_sections(path: str | Path, sections: Sequence[str]) -> list[dict[str, Any]]:
    """Entries of several sections of a datalist together, with or without labels; see :func:`load_datalist`."""
    return [item for section in sections for item in load_datalist(path, section, require_label=False)]


def _resolved(item: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Paths from the datalist's folder on; where label or regions are null there are none."""
    given = {key: value for key, value in item.items() if key not in (*_PATHS, "regions") or value is not None}
    return in_dicom_folder({key: str(folder / value) if key in _PATHS else value for key, value in given.items()})


def in_dicom_folder(item: dict[str, Any]) -> dict[str, Any]:
    """Return an entry whose image is the folder of a DICOM slide's files with one of these; others as they are.

    Raises:
        ValueError: several slides lie in the folder.
    """
    image = Path(item["image"])
    if not image.is_dir():
        return item
    slides = slides_of_folder(image)
    if len(slides) > 1:
        raise ValueError(f"{image}: {len(slides)} DICOM slides lie in it. Name a file of one of them")
    return {**item, "image": str(slides[0]), DICOM_FOLDER: image.resolve().name} if slides else item


def _without(items: Sequence[dict[str, Any]], leave_out: Mapping[str, Any]) -> list[dict[str, Any]]:
    for column, values in leave_out.items():
        unwanted = {str(value) for value in (values if isinstance(values, list | tuple) else [values])}
        if not any(column in item for item in items):
            raise ValueError(f"no slide has the column {column!r} of leave_out")
        items = [item for item in items if str(item.get(column)) not in unwanted]
    return list(items)


def merge_by_slide(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return an entry per slide: the first of each, with the regions of all; where one has none, all of the slide
    counts. Different images of a file are different slides.

    Raises:
        ValueError: they are to be read at different µm/px or through different backends, or only some of a file's
            entries have a series, so that it is not known whether they are of one slide.
    """
    merged: dict[tuple[str, int | None], dict[str, Any]] = {}
    for key, item in zip(slide_keys(items), items, strict=True):
        if key not in merged:
            merged[key] = dict(item)
            continue
        for field in ("mpp", "backend", "series"):
            given, other = merged[key].get(field), item.get(field)
            if given != other and not (field == "series" and image_and_series(merged[key]) == image_and_series(item)):
                raise ValueError(
                    f"{key[0]}: entries with different {field} ({given}, {other}). Give all entries of a slide the same"
                )
        if "regions" in item and "regions" in merged[key]:
            merged[key]["regions"] = [*merged[key]["regions"], *item["regions"]]
        else:
            merged[key].pop("regions", None)
    return list(merged.values())


def _given(slide: str | int | Path) -> str:
    """Return a path, glob or URL of slides as a config gives it; see :func:`common.literal.as_path`."""
    return slide if isinstance(slide, str) and "::" in slide and Path(slide).exists() else as_path(slide)


def slide_items(slides: str | Path | Sequence[str | Path], section: str = "testing") -> list[dict[str, Any]]:
    """Slides to segment, from paths, globs or datalists, alone or in a list.

    Args:
        slides: a slide's path, a glob (``"slides/*.svs"``), a datalist's path (``.json``), or several of them. Files of
            one DICOM slide are one slide, and so is their folder.
        section: which part of a datalist.

    Raises:
        ValueError: a glob matches nothing, the list is empty, or an entry is no path.
    """
    listed: list[Any] = list(slides) if isinstance(slides, list | tuple) else [slides]
    items: list[dict[str, Any]] = []
    for entry in map(_given, listed):
        if entry.endswith(".json"):
            items.extend(load_datalist(entry, section, require_label=False))
        elif glob.has_magic(entry) and not Path(entry).exists():
            found = sorted(glob.glob(entry, recursive=True))
            if not found:
                raise ValueError(f"no slide matches {entry!r}")
            items.extend(_found_slides(found))
        else:
            items.extend(_found_slides([entry]))
    if not items:
        raise ValueError("no slides given: set slides to a path, a glob or a datalist")
    return once_per_series(items)


def _found_slides(paths: Sequence[str]) -> list[dict[str, Any]]:
    return [item for path in paths for item in slides_at(path)]


def slides_at(path: str) -> list[dict[str, Any]]:
    """Return an entry of the slide at a path, or of each DICOM slide in the folder that it is."""
    slides = slides_of_folder(Path(path)) if Path(path).is_dir() else []
    return [{"image": str(slide)} for slide in slides] if len(slides) > 1 else [in_dicom_folder({"image": path})]


def once_per_series(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return entries with, of several files of one DICOM slide, only the first one's."""
    kept = {str(path) for path in one_file_per_slide(dict.fromkeys(Path(item["image"]) for item in items))}
    return [item for item in items if str(Path(item["image"])) in kept]
