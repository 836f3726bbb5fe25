"""Make cells of tables that a spreadsheet shows as text, whatever they begin with.

Spreadsheets run a cell that begins with one of a few characters as a formula, and the name of a slide, class or patient
may begin so. An apostrophe in front makes it text, and is not shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = re.compile(r"[=+\-@\t\r\n]|[\uff1d\uff0b\uff0d\uff20]")
# A number as text, which spreadsheets read as a number.
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_MARKED = re.compile(r"'+(?:[=+\-@\t\r\n]|[\uff1d\uff0b\uff0d\uff20])")


def inert_cell(value: Any) -> Any:
    """Return a cell that no spreadsheet runs: text that could be a formula gets an apostrophe in front.

    Everything else is unchanged; numbers stay numbers.

    Example:
        >>> inert_cell("=1+1"), inert_cell("slide 1"), inert_cell(-0.5), inert_cell("-0.5")
        ("'=1+1", 'slide 1', -0.5, '-0.5')
    """
    if isinstance(value, PurePath):
        value = str(value)
    # Text that begins with apostrophes before a formula gets one more, so that original_cell can restore it.
    if isinstance(value, str) and (_FORMULA.match(value) or _MARKED.match(value)) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def original_cell(value: Any) -> Any:
    """Return the cell that :func:`inert_cell` made inert."""
    return value[1:] if isinstance(value, str) and _MARKED.match(value) else value


def inert_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row for ``csv.DictWriter`` with inert cells; its keys are unchanged."""
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
