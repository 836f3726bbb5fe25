"""MONAI's decathlon datalists of slides, and the ways to name slides to segment."""

from __future__ import annotations

import glob
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SECTIONS = ("training", "validation", "testing")
_PATHS = ("image", "label", "pseudo_label")


def load_datalist(
    path: str | Path, section: str, require_label: bool = True, leave_out: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Read one section of a datalist.

    Args:
        path: a JSON file
            ``{"training": [{"image", "label", "mpp"?, "class_map"?, "label_values"?, …}], "validation": […], …}``;
            relative paths in it are relative to its own folder. ``label_channel`` and ``label_pages`` pick a label
            image's channel and say which page is which class. ``cut_out`` (group names of ASAP's XML) lie over all
            other outlines. ``regions`` (``[top, left, height, width]``, level-0 pixels) are the parts that count;
            ``unannotated`` (``{"class", "within": "slide" | "tissue" | "region"}``) says what bare pixels are;
            ``pseudo_label``, a ``prediction.tif``, what they are then still. Further columns are kept.
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
    """The entries of a section of a datalist's content, paths as they stand there; see :func:`load_datalist`.

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
    return items


def _content(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such datalist. Set datalist to a JSON file of slides and labels") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from error


def filled_sections(path: str | Path) -> list[str]:
    """The sections of a datalist that have entries.

    Raises:
        ValueError: there is no such file, or it is not JSON.
    """
    content = _content(Path(path))
    return [section for section in SECTIONS if isinstance(content, dict) and content.get(section)]


def all_sections(path: str | Path) -> list[str]:
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
    return {key: str(folder / value) if key in _PATHS else value for key, value in given.items()}


def _without(items: Sequence[dict[str, Any]], leave_out: Mapping[str, Any]) -> list[dict[str, Any]]:
    for column, values in leave_out.items():
        unwanted = {str(value) for value in (values if isinstance(values, list | tuple) else [values])}
        if not any(column in item for item in items):
            raise ValueError(f"no slide has the column {column!r} of leave_out")
        items = [item for item in items if str(item.get(column)) not in unwanted]
    return list(items)


def one_per_slide(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Entries of the same file become the first of them, with the regions of all; where one has none, all of the slide
    counts.

    Raises:
        ValueError: they are to be read at different µm/px or through different backends.
    """
    merged: dict[str, dict[str, Any]] = {}
    for item in items:
        key = str(item["image"])
        if key not in merged:
            merged[key] = dict(item)
            continue
        for field in ("mpp", "backend"):
            if item.get(field) != merged[key].get(field):
                raise ValueError(f"{key}: entries with different {field} ({merged[key].get(field)}, {item.get(field)})")
        if "regions" in item and "regions" in merged[key]:
            merged[key]["regions"] = [*merged[key]["regions"], *item["regions"]]
        else:
            merged[key].pop("regions", None)
    return list(merged.values())


def slide_items(slides: str | Path | Sequence[str | Path], section: str = "testing") -> list[dict[str, Any]]:
    """Slides to segment, from paths, globs or datalists, alone or in a list.

    Args:
        slides: a slide's path, a glob (``"slides/*.svs"``), a datalist's path (``.json``), or several of them.
        section: which part of a datalist.

    Raises:
        ValueError: a glob matches nothing, or the list is empty.
    """
    listed = [slides] if isinstance(slides, str | Path) else list(slides)
    items: list[dict[str, Any]] = []
    for entry in map(str, listed):
        if entry.endswith(".json"):
            items.extend(load_datalist(entry, section, require_label=False))
        elif glob.has_magic(entry) and not Path(entry).exists():
            found = sorted(glob.glob(entry, recursive=True))
            if not found:
                raise ValueError(f"no slide matches {entry!r}")
            items.extend({"image": path} for path in found)
        else:
            items.append({"image": entry})
    if not items:
        raise ValueError("no slides given: set slides to a path, a glob or a datalist")
    return items
