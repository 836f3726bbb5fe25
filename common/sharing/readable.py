"""Check that a bundle's files can be opened at all, and its configs read within limits.

These checks come before all others and load no library: files made to exhaust whoever reads them are refused at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from .archive import files_of, out_of_place
from .texts import BundleFileError, read_settings

Check = Callable[[Path, list[str]], Iterator[str]]

_SETTING_KINDS = frozenset((".yaml", ".yml", ".json"))


def layout(folder: Path, notes: list[str]) -> Iterator[str]:
    """Check that there are only files and folders of a bundle's sizes, so that later checks may open them."""
    yield from out_of_place(folder)


def configs(folder: Path, notes: list[str]) -> Iterator[str]:
    """Check that every config can be read, and does not unfold to more than any config does."""
    for path in files_of(folder):
        if path.parts[0] == "configs" and path.suffix in _SETTING_KINDS:
            try:
                read_settings(folder / path)
            except BundleFileError as error:
                yield str(error)


# If one fails, later checks must not open anything.
READABLE: dict[str, Check] = {
    "files and folders only, of a bundle's sizes": layout,
    "configs that can be read": configs,
}
