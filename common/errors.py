"""Errors about files that cannot be read or written.

Classes with ``retryable = False`` say that another try fails in the same way. It is an attribute, since an exported
bundle brings its own copies of the classes.
"""

from __future__ import annotations

from pathlib import Path


class OutputError(ValueError):
    """An output that was asked for cannot be made; says why and what to do instead."""

    retryable = False


class UnreadableFileError(Exception):
    """Names the file, what is wrong and where in it, and what the user can do.

    Args:
        path: the file.
        problem: what is wrong, and where.
        remedy: what to do about it.
    """

    retryable = False

    def __init__(self, path: str | Path, problem: str, remedy: str) -> None:
        super().__init__(f"{path}: {problem}. {remedy}")
        self.path = Path(path)
        self.problem = problem
        self.remedy = remedy

    def __reduce__(self) -> tuple:
        return type(self), (self.path, self.problem, self.remedy)
