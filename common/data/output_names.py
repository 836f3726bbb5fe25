"""Name the output folders of slides. Only here does a slide's name or column become a folder's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..files import safe_name, same_name
from ..slides import entry_name, slide_name
from .datalist import DICOM_FOLDER


def output_name(item: Mapping[str, Any], name_by: str | None = None, name_of: Callable[[str], str] = slide_name) -> str:
    """Return the name of a datalist entry's output folder; see :func:`common.files.safe_name`.

    Args:
        item: the entry.
        name_by: column that names the folder; the slide's file name by default.
        name_of: returns a slide's name from its path or URL.

    Raises:
        ValueError: the entry lacks the column, or its value is neither text nor a number.
    """
    return safe_name(_plain_name(item, name_by, name_of))


def output_names(
    items: Sequence[Mapping[str, Any]],
    name_by: str | None = None,
    name_of: Callable[[str], str] = slide_name,
) -> list[str]:
    """Return the names of all entries' output folders; see :func:`output_name`.

    Args:
        items: the entries.
        name_by: column that names the folders.
        name_of: returns a slide's name from its path or URL.

    Raises:
        ValueError: two entries would share a folder on some file system. The message names both.
    """
    names = [output_name(item, name_by, name_of) for item in items]
    first: dict[str, int] = {}
    for position, name in enumerate(names):
        before = first.setdefault(same_name(name), position)
        if before != position:
            raise ValueError(_both_named(items[before], items[position], name, name_by, name_of))
    return names


def _plain_name(item: Mapping[str, Any], name_by: str | None, name_of: Callable[[str], str]) -> str:
    if name_by is None:
        return entry_name(item, item.get(DICOM_FOLDER) or name_of(str(item["image"])))
    value = item.get(name_by)
    if value is None or not str(value).strip():
        raise ValueError(f"{item['image']}: its entry has no column {name_by!r} to name it by")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{item['image']}: its {name_by!r} is {value!r}. Name slides by a column of texts or numbers")
    return str(value)


def _both_named(
    one: Mapping[str, Any], other: Mapping[str, Any], name: str, name_by: str | None, name_of: Callable[[str], str]
) -> str:
    plain = [_plain_name(item, name_by, name_of) for item in (one, other)]
    paths = f"{one['image']} and {other['image']}"
    remedy = "Rename a file, or name them by a column of the datalist with name_by"
    if name_by is not None:
        remedy = f"Name them by another column than {name_by!r} with name_by"
    if plain[0] == plain[1]:
        return f"two slides are called {name!r}: {paths}. {remedy}"
    return f"{plain[0]!r} and {plain[1]!r} would share the folder {name!r}: {paths}. {remedy}"
