"""The columns of datalists and tables that are read, and misspellings of them."""

from __future__ import annotations

from collections.abc import Iterable

_READ = (
    "image",
    "label",
    "pseudo_label",
    "mpp",
    "series",
    "backend",
    "origin",
    "class_map",
    "label_values",
    "label_channel",
    "label_pages",
    "cut_out",
    "regions",
    "unannotated",
)


def check_columns(columns: Iterable[str], place: str) -> None:
    """Check that no column is a misspelling of one that is read: its values would be ignored.

    Columns of other names are the user's own. So is one that is written almost like a column that is there, too.

    Args:
        columns: names of an entry's columns.
        place: file and line of the entry, for the error.

    Raises:
        ValueError: a column differs from one that is read in one letter, or in case.
    """
    there = set(columns)
    for column in sorted(there - set(_READ)):
        meant = [name for name in _READ if name not in there and _one_edit_apart(column.strip().casefold(), name)]
        if meant:
            raise ValueError(
                f"{place}: no column {column!r} is read. Write {meant[0]!r}; or name a column of your own less like it"
            )


def _one_edit_apart(one: str, other: str) -> bool:
    """Return whether at most one letter added, dropped, changed or swapped with the next makes the words equal."""

    def dropped(word: str, place: int) -> str:
        return word[:place] + word[place + 1 :]

    def swapped(word: str, place: int) -> str:
        return word[:place] + word[place : place + 2][::-1] + word[place + 2 :]

    return one == other or any(
        dropped(one, place) in (other, dropped(other, place))
        or dropped(other, place) == one
        or swapped(one, place) == other
        for place in range(max(len(one), len(other)))
    )
