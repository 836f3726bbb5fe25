"""Errors about files that cannot be read or written.

Classes with ``retryable = False`` say that another try fails in the same way. It is an attribute, since an exported
bundle brings its own copies of the classes.
"""

from __future__ import annotations

from pathlib import Path


class OutputError(ValueError):
    """A requested output cannot be made; the message has the reason and the remedy."""

    retryable = False


class UnreadableFileError(Exception):
    """A file cannot be read; the message has the file, the problem and the remedy.

    Args:
        path: the file.
        problem: the problem, and its place in the file.
        remedy: the user's remedy.
    """

    retryable = False

    def __init__(self, path: str | Path, problem: str, remedy: str) -> None:
        super().__init__(f"{path}: {problem}. {remedy}")
        self.path = Path(path)
        self.problem = problem
        self.remedy = remedy

    def __reduce__(self) -> tuple:
        return type(self), (self.path, self.problem, self.remedy)
