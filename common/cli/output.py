"""Standard output and error whose reader, as head or a terminal, may leave without ending the command."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class _Unbroken:
    """A stream that goes on, into nothing, when its reader has left."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text, or discard it."""
        self._unless_left(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush what was written, or discard it."""
        self._unless_left(self._stream.flush)

    def _unless_left(self, call: Callable[[], object]) -> None:
        try:
            call()
        except OSError as error:
            if not self._has_left(error):
                raise
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self._stream.fileno())
            os.close(nothing)

    def _has_left(self, error: OSError) -> bool:
        """Return whether an error means that no one reads any more: a closed pipe, or a closed terminal.

        The error of a closed terminal is that of a failing disk, too, which must not pass unseen.
        """
        if isinstance(error, BrokenPipeError):
            return True
        return error.errno == errno.EIO and stat.S_ISCHR(os.fstat(self._stream.fileno()).st_mode)


@contextmanager
def unbroken_output() -> Iterator[None]:
    """Within, a closed standard output or error neither stops the work nor changes the exit code."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_Unbroken, before)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before
