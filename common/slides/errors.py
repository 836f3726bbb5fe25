"""The one error every slide backend raises."""

from __future__ import annotations

from pathlib import Path


class SlideError(Exception):
    """A slide that cannot be read rightly.

    Args:
        path: the slide's file.
        problem: what is wrong, and where in the file.
        remedy: what the user can do about it.
    """

    def __init__(self, path: str | Path, problem: str, remedy: str) -> None:
        super().__init__(f"{path}: {problem}. {remedy}")
        self.path = Path(path)
        self.problem = problem
        self.remedy = remedy

    def __reduce__(self) -> tuple:
        return type(self), (self.path, self.problem, self.remedy)


class UnsupportedLayoutError(SlideError):
    """The file may be sound, but this backend does not read its layout; another one may."""
