"""A line on the console once PyTorch or MONAI is being loaded, which takes seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from ..bundle.run import say_loading

_SLOW = ("torch", "monai")


class _Announcement(MetaPathFinder):
    """A finder that finds nothing: Python asks it for each module before it loads it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in _SLOW:
            say_loading()
        return None


@contextmanager
def loading_announced() -> Iterator[None]:
    """Print a line at the first import of PyTorch or MONAI inside the block, so that none is printed without it."""
    finder = _Announcement()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
