"""Read tables and lists that spreadsheets and editors save."""

from __future__ import annotations

import codecs
import csv
import io
import math
from collections.abc import Iterator, Sequence
from typing import Any

_DELIMITERS = (",", ";", "\t")
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def text_of(content: bytes) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 with a byte order mark, without that mark.

    Raises:
        UnicodeDecodeError: the file is in neither.
    """
    return content.decode("utf-16" if content.startswith(_UTF_16) else "utf-8-sig")


def rows_of(text: str, known: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a table that hold a value, each with the number of its last line.

    Args:
        text: the table, with commas, semicolons or tabs.
        known: columns that may be written in any case.
    """
    header = text.split("\n", 1)[0]
    table = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=header.count))
    names = {key: _known(key.strip(), known) for key in table.fieldnames or () if key}
    for row in table:
        values = {names[key]: (value or "").strip() for key, value in row.items() if key in names}
        if any(values.values()):
            yield table.line_num, values


def parse_mpp(value: Any) -> float:
    """Return µm/px as a number. A text may have a decimal comma.

    Raises:
        ValueError: the value is not a positive number.
    """
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise TypeError
        number = float(value.strip().replace(",", ".") if isinstance(value, str) else value)
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is not a number of µm per pixel") from None
    if not 0 < number < math.inf:
        raise ValueError(f"{value!r} is not a valid mpp. Give its µm per pixel")
    return number


def _known(name: str, known: Sequence[str]) -> str:
    return next((one for one in known if one == name.casefold()), name)
