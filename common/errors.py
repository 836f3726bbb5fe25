"""Errors about files that cannot be read or written."""

from __future__ import annotations

from pathlib import Path


class OutputError(ValueError):
    """An output that was asked for cannot be made; says why and what to do instead."""


class UnreadableFileError(Exception):
    """Names the file, what is wrong and where in it, and what the user can do.

    Args:
        path: the file.
        problem: what is wrong, and where.
        remedy: what to do about it.
    """

    def __init__(self, path: str | Path, problem: str, remedy: str) -> None:
        super().__init__(f"{path}: {problem}. {remedy}")
        self.path = Path(path)
        self.problem = problem
        self.remedy = remedy

    def __reduce__(self) -> tuple:
        return type(self), (self.path, self.problem, self.remedy)
