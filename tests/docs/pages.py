"""The pages of the documentation, and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import REPOSITORY

PAGES = [
    *sorted(REPOSITORY.glob("*.md")),
    *sorted(path for path in (REPOSITORY / "docs").rglob("*.md") if "_build" not in path.parts),
    *sorted(REPOSITORY.glob("bundles/*/docs/*.md")),
]
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    """Return a page's path in the repository."""
    return page.relative_to(REPOSITORY).as_posix()


def fenced(page: Path, language: str = "") -> list[str]:
    """Return the fenced blocks of a language."""
    return [text for kind, text in _FENCED.findall(page.read_text(encoding="utf-8")) if kind == language]


def without_code(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return _FENCED.sub("", page.read_text(encoding="utf-8"))


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of every command line on a page."""
    for block in fenced(page):
        for line in block.replace("\\\n", " ").splitlines():
            if not line.startswith("#"):
                yield from filter(None, [shlex.split(part, comments=True) for part in re.split(r" && ", line)])
