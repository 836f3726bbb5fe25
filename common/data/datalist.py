"""Read datalists of slides in MONAI's decathlon format, and list the slides to segment."""

from __future__ import annotations

import glob
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..literal import as_path
from ..slides import image_and_series, parse_series, slide_keys
from .columns import check_columns
from .dicom_series import one_file_per_slide, slides_of_folder
from .tables import parse_mpp, text_of

SECTIONS = ("training", "validation", "testing")
_PATHS = ("image", "label", "pseudo_label")
# Key of the folder's name, where an entry's image was the folder of a DICOM slide.
DICOM_FOLDER = "dicom_folder"


def load_datalist(
    path: str | Path, section: str, require_label: bool = True, leave_out: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Read one section of a datalist.

    Args:
        path: a JSON file
            ``{"training": [{"image", "label", "mpp"?, "class_map"?, "label_values"?, …}], "validation": […], …}``;
            relative paths are relative to its folder. Further columns are kept. The fields of an entry are

            - ``image``: the slide; of a DICOM slide a file or the folder of its files.
            - ``series``: number of an image in the file; see :func:`common.slides.open_slide`.
            - ``label_channel``, ``label_pages``: channel of a label image, and the class of each of its pages.
            - ``origin``: ``"slide"`` or ``"bounds"``, from whose corner positions in ``label`` count.
              ``regions`` always count from the slide's.
            - ``cut_out``: groups of ASAP's XML that lie over all other outlines.
            - ``regions``: the parts that count, ``[top, left, height, width]`` in level-0 pixels.
            - ``unannotated``: class of unannotated pixels, ``{"class", "within": "slide" | "tissue" | "region"}``.
            - ``pseudo_label``: a ``prediction.tif`` that labels the pixels still unannotated.
        section: ``"training"``, ``"validation"`` or ``"testing"``.
        require_label: whether every entry must have a label or a class of unannotated pixels.
        leave_out: column -> value, or list of values, of the entries to leave out.

    Raises:
        ValueError: the file, the section or a needed field is missing. The message names it.
    """
    path = Path(path)
    kept = _without(check_entries(_content(path), path, section, require_label), leave_out or {})
    if not kept:
        raise ValueError(f'{path}: leave_out leaves nothing of section "{section}"')
    return [_resolved(item, path.parent) for item in kept]


def check_entries(content: Any, path: str | Path, section: str, require_label: bool = True) -> list[dict[str, Any]]:
    """Return the checked entries of a section, with unchanged paths; see :func:`load_datalist`.

    Args:
        content: content of a datalist.
        path: its path, for errors.
        section, require_label: see :func:`load_datalist`.

    Raises:
        ValueError: the section or a needed field is missing. The message names it, and ``path``.
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
        # Without a label but with a class of unannotated pixels, the whole slide has that class.
        unlabelled = item.get("unannotated", "ignore") == "ignore" and item.get("pseudo_label") is None
        needed = ("image", "label") if require_label and unlabelled else ("image",)
        missing = [key for key in needed if item.get(key) is None]
        if missing:
            raise ValueError(f'{path}: entry {number} of "{section}" has no "{missing[0]}"')
    return [with_numbers(item, f'{path}: entry {number} of "{section}"') for number, item in enumerate(items)]


def with_numbers(item: dict[str, Any], place: str) -> dict[str, Any]:
    """Return an entry with its mpp and series as numbers.

    Args:
        item: the entry; tables hold numbers as text.
        place: its place in a file, for errors.

    Raises:
        ValueError: one of them is not a number, or a column is a misspelling of one that is read. The message names it
            and ``place``.
    """
    check_columns(item, place)
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
    """Return entries with a default mpp and series where they have none.

    Raises:
        ValueError: a default is not a number.
    """
    numbers = with_numbers({"mpp": mpp, "series": series}, "given for all slides")
    defaults = {name: value for name, value in numbers.items() if value is not None}
    return [{**item, **{name: value for name, value in defaults.items() if item.get(name) is None}} for item in items]


def _content(path: Path) -> Any:
    try:
        return json.loads(text_of(path.read_bytes()))
    except FileNotFoundError as error:
        as_path(path)  # A path that a config cut at "#" has an error of its own.
        raise ValueError(f"{path}: no such datalist. Set datalist to a JSON file of slides and labels") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not JSON in UTF-8 ({error}). Save it as UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error


def standard_sections(path: str | Path) -> list[str]:
    """Return the standard sections (training, validation, testing) of a datalist that have entries.

    Raises:
        ValueError: there is no such file, or it is not JSON.
    """
    content = _content(Path(path))
    return [section for section in SECTIONS if isinstance(content, dict) and content.get(section)]


def section_names(path: str | Path) -> list[str]:
    """Return all sections of a datalist that have entries, further ones included.

    Raises:
        ValueError: there is no such file, or it is not JSON.
    """
    content = _content(Path(path))
    return [section for section, entries in content.items() if entries] if isinstance(content, dict) else []


def load_sections(path: str | Path, sections: Sequence[str]) -> list[dict[str, Any]]:
    """Return the entries of several sections of a datalist, with or without labels; see :func:`load_datalist`."""
    return [item for section in sections for item in load_datalist(path, section, require_label=False)]


def _resolved(item: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return an entry with its paths joined to the datalist's folder, and without paths or regions that are null."""
    fields = {key: value for key, value in item.items() if key not in (*_PATHS, "regions") or value is not None}
    return in_dicom_folder({key: str(folder / value) if key in _PATHS else value for key, value in fields.items()})


def in_dicom_folder(item: dict[str, Any]) -> dict[str, Any]:
    """Return an entry with a file of the DICOM slide in place of its folder; other entries unchanged.

    Raises:
        ValueError: the folder holds several slides.
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
    """Merge the entries of each slide into the first one, with the regions of all.

    If an entry has no regions, the whole slide counts. Different images of a file are different slides.

    Raises:
        ValueError: entries of a slide have different µm/px or backends; or only some entries of a file have a series,
            so that it is unknown whether they are of one slide.
    """
    merged: dict[tuple[str, int | None], dict[str, Any]] = {}
    for key, item in zip(slide_keys(items), items, strict=True):
        if key not in merged:
            merged[key] = dict(item)
            continue
        for field in ("mpp", "backend", "series"):
            first, other = merged[key].get(field), item.get(field)
            if first != other and not (field == "series" and image_and_series(merged[key]) == image_and_series(item)):
                raise ValueError(
                    f"{key[0]}: entries with different {field} ({first}, {other}). Give all entries of a slide the same"
                )
        if "regions" in item and "regions" in merged[key]:
            merged[key]["regions"] = [*merged[key]["regions"], *item["regions"]]
        else:
            merged[key].pop("regions", None)
    return list(merged.values())


def _path_of(slide: str | int | Path) -> str:
    """Return a path, glob or URL of slides from a config's value; see :func:`common.literal.as_path`."""
    return slide if isinstance(slide, str) and "::" in slide and Path(slide).exists() else as_path(slide)


def slide_items(slides: str | Path | Sequence[str | Path], section: str = "testing") -> list[dict[str, Any]]:
    """Return an entry for each slide to segment.

    Args:
        slides: path of a slide, a glob (``"slides/*.svs"``), path of a datalist (``.json``), or a list of them. The
            files of one DICOM slide are one slide, and so is their folder.
        section: section to read of a datalist.

    Raises:
        ValueError: a glob matches nothing, the list is empty, or an entry is not a path.
    """
    listed: list[Any] = list(slides) if isinstance(slides, list | tuple) else [slides]
    items: list[dict[str, Any]] = []
    for entry in map(_path_of, listed):
        if entry.endswith(".json"):
            items.extend(load_datalist(entry, section, require_label=False))
        elif glob.has_magic(entry) and not Path(entry).exists():
            paths = sorted(glob.glob(entry, recursive=True))
            if not paths:
                raise ValueError(f"no slide matches {entry!r}")
            items.extend(_entries_of(paths))
        else:
            items.extend(_entries_of([entry]))
    if not items:
        raise ValueError("no slides given: set slides to a path, a glob or a datalist")
    return once_per_series(items)


def _entries_of(paths: Sequence[str]) -> list[dict[str, Any]]:
    return [item for path in paths for item in slides_at(path)]


def slides_at(path: str) -> list[dict[str, Any]]:
    """Return an entry of the slide at a path, or of each DICOM slide if the path is their folder."""
    slides = slides_of_folder(Path(path)) if Path(path).is_dir() else []
    return [{"image": str(slide)} for slide in slides] if len(slides) > 1 else [in_dicom_folder({"image": path})]


def once_per_series(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return entries with only the first of several files of one DICOM slide."""
    kept = {str(path) for path in one_file_per_slide(dict.fromkeys(Path(item["image"]) for item in items))}
    return [item for item in items if str(Path(item["image"])) in kept]
