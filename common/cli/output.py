"""Standard output and error of commands, made safe.

Their reader, such as head or a terminal, may close them without ending the command. Names and messages of files are a
stranger's: control characters in them are written as escape sequences, whoever prints them.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from ..files import printable, printable_line

# Texts that progress bars write: cursor moves, and a line between carriage returns.
_MOVE = re.compile(r"\n*(?:\x1b\[A)*")
_LINE = re.compile(r"(\r?)(.*?)(\r?)", re.DOTALL)


class _Safe:
    """A stream that writes no control characters, and discards its text once its reader has left.

    Args:
        stream: stream to write to.
        bars: whether progress bars are drawn on it, which may return to the start of their line.
    """

    def __init__(self, stream: TextIO, bars: bool) -> None:
        self._stream, self._bars = stream, bars

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text, or discard it."""
        self._unless_left(lambda: self._stream.write(self._shown(text)))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write texts, or discard them."""
        for line in lines:
            self.write(line)

    def _shown(self, text: str) -> str:
        if not self._bars:
            return _printable_tabs(text)
        if _MOVE.fullmatch(text):
            return text
        before, line, after = _LINE.fullmatch(text).groups()  # type: ignore[union-attr]  # matches every text
        return f"{before}{_printable_tabs(line)}{after}"

    def flush(self) -> None:
        """Flush written text, or discard it."""
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
        """Return whether an error means that nobody reads any more: a closed pipe or terminal.

        A closed terminal raises the same error as a failing disk, which must not be missed.
        """
        if isinstance(error, BrokenPipeError):
            return True
        return error.errno == errno.EIO and stat.S_ISCHR(os.fstat(self._stream.fileno()).st_mode)


def _printable_tabs(text: str) -> str:
    return "\t".join(map(printable, text.split("\t")))


class SafeFormatter(logging.Formatter):
    """A formatter without control characters. This project's messages take one line each: names may have line feeds."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return a record's message without control characters."""
        ours = record.name.split(".")[0] == __name__.split(".")[0]
        return (printable_line if ours else printable)(super().formatMessage(record))


@contextmanager
def safe_output() -> Iterator[None]:
    """Make standard output and error safe in the block.

    Closing them neither stops the work nor changes the exit code, and text written to them has no control characters.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Safe(sys.stdout, bars=False), _Safe(sys.stderr, bars=True)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before
