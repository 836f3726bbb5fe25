"""Write text into MONAI's configs, where ``#`` becomes ``::``, and ``$``, ``@`` or ``%`` in front has a meaning."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_SEPARATOR = "::"
# Characters that begin an expression, a reference and a macro.
_MARKS = ("$", "@", "%")
# Parts of a text that MONAI changes: the old separator, and references relative to their place.
_CHANGED = re.compile(r"#|[@%]::")


def literal(value: Any) -> Any:
    """Return a config's value with expressions for the texts that MONAI would change.

    Texts that are expressions, references or macros themselves are unchanged, and so are other values.
    """
    if isinstance(value, Mapping):
        return {key: literal(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [literal(one) for one in value]
    if not isinstance(value, str) or value.startswith(_MARKS) or not _CHANGED.search(value):
        return value
    quoted = repr(value)
    if '"' not in value:
        # A single quote in the text makes repr use double quotes, which a shell keeps between single ones.
        quoted = f'"{repr(chr(39) + value)[2:-1]}"'
    return "$" + "".join(f"\\x{ord(one):02x}" if one in "#@%" else one for one in quoted)


def is_misread(text: str) -> bool:
    """Return whether MONAI takes a text in a config for something else."""
    return "#" in text or _SEPARATOR in text or text.startswith(_MARKS)


def as_path(given: str | int | Path) -> str:
    """Return a config's path as text.

    It may be a number: a command line turns a folder called 2023 into one.

    Raises:
        ValueError: the path has ``::``, which was ``#``, or is no path.
    """
    if isinstance(given, bool) or not isinstance(given, str | int | Path):
        raise ValueError(f"{given!r} is no path. Put quotes around it twice: \"'{given}'\"")
    path = str(given)
    if _SEPARATOR in path:
        meant = path.replace(_SEPARATOR, "#")
        raise ValueError(
            f"{path}: MONAI reads # in a path as ::. Rename it, or write it as {shlex.quote(literal(meant))}"
        )
    return path
