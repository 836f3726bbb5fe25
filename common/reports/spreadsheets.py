"""Cells of tables that a spreadsheet shows as text, whatever they begin with.

Spreadsheets run a cell that begins with one of a few characters as a formula, and a slide's, class's or patient's name
may. An apostrophe before it makes it text, and is not shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = re.compile(r"[=+\-@\t\r\n]|[\uff1d\uff0b\uff0d\uff20]")
# What a number may look like as text: spreadsheets take it for one.
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_MARKED = re.compile(r"'+(?:[=+\-@\t\r\n]|[\uff1d\uff0b\uff0d\uff20])")


def inert_cell(value: Any) -> Any:
    """Return a cell that no spreadsheet runs: text that could be a formula with an apostrophe before it, everything
    else unchanged. Numbers stay numbers.

    Example:
        >>> inert_cell("=1+1"), inert_cell("slide 1"), inert_cell(-0.5), inert_cell("-0.5")
        ("'=1+1", 'slide 1', -0.5, '-0.5')
    """
    if isinstance(value, PurePath):
        value = str(value)
    # Text that begins with apostrophes before a formula gets one more, so that original_cell gives it back.
    if isinstance(value, str) and (_FORMULA.match(value) or _MARKED.match(value)) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def original_cell(value: Any) -> Any:
    """Return what :func:`inert_cell` was given."""
    return value[1:] if isinstance(value, str) and _MARKED.match(value) else value


def inert_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of a table, as ``csv.DictWriter`` takes it, with inert cells; its keys are unchanged."""
    return {key: inert_cell(value) for key, value in row.items()}


def inert_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with inert cells and column names. Its index, which is not written, is unchanged."""
    # Only columns that may hold text are mapped: numbers keep their type, and are written as before.
    columns = {
        name: table[name].map(inert_cell, na_action="ignore")
        if table[name].dtype.kind not in "biufcmM"
        else table[name]
        for name in table.columns
    }
    return table.assign(**columns).rename(columns=inert_cell)
