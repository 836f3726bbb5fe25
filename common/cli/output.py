"""Standard output and error as commands write to them.

Whoever reads them may close them, as head does, without ending the command. Names and messages of files are a
stranger's: what a terminal would obey in them is written as an escape sequence, whoever prints it.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from ..files import printable, printable_line

# What progress bars write: where they move to, and a line between returns to its beginning.
_MOVE = re.compile(r"\n*(?:\x1b\[A)*")
_LINE = re.compile(r"(\r?)(.*?)(\r?)", re.DOTALL)


class _Safe:
    """A stream without control characters that goes on, into nothing, when its reader has left.

    Args:
        stream: what is written to.
        bars: whether progress bars are drawn on it, which may return to the beginning of their line.
    """

    def __init__(self, stream: TextIO, bars: bool) -> None:
        self._stream, self._bars = stream, bars

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text, or discard it."""
        try:
            self._stream.write(self._shown(text))
        except BrokenPipeError:
            self._discard()
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
        """Flush what was written, or discard it."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._discard()

    def _discard(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


def _printable_tabs(text: str) -> str:
    return "\t".join(map(printable, text.split("\t")))


class SafeFormatter(logging.Formatter):
    """Writes messages without control characters, this project's own on one line each: names in them may have line
    feeds."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return a record's message as it is shown."""
        ours = record.name.split(".")[0] == __name__.split(".")[0]
        return (printable_line if ours else printable)(super().formatMessage(record))


@contextmanager
def safe_output() -> Iterator[None]:
    """Within, a closed standard output or error neither stops the work nor changes the exit code, and what is written
    to them has no control characters."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Safe(sys.stdout, bars=False), _Safe(sys.stderr, bars=True)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before
