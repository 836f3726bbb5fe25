"""Failures that pass, and those that do not."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from ..files import DISK_FULL_ERRNOS
from .locations import redacted

_Result = TypeVar("_Result")
# Errors that say the file, the rights or the settings are wrong. By name: of an exported bundle's modules there are
# several of one name.
_LASTING = frozenset(
    (
        *("UnreadableFileError", "SettingsError", "OutputError", "ValueError", "TypeError", "KeyError"),
        *("FileNotFoundError", "PermissionError", "IsADirectoryError", "NotADirectoryError", "ImportError"),
        *("NoCredentialsError", "DefaultCredentialsError"),
    )
)
# Answers of a server that say: later, perhaps.
_LATER = frozenset((408, 425, 429))


class GivenUpError(OSError):
    """What failed time and again, and may work later."""


def passes(error: BaseException) -> bool:
    """Whether it may go otherwise when it is tried again: a server, a network, a disk, memory; not the file itself."""
    if any(kind.__name__ in _LASTING for kind in type(error).__mro__):
        return False
    status = getattr(error, "status", None) or getattr(error, "code", None)
    return not (isinstance(status, int) and 400 <= status < 500 and status not in _LATER)


def is_full(error: BaseException) -> bool:
    """Whether a disk, or what one may write to it, is full."""
    return isinstance(error, OSError) and error.errno in DISK_FULL_ERRNOS


def patiently(
    call: Callable[[], _Result], what: str, tries: int = 6, first: float = 0.5, longest: float = 30.0
) -> _Result:
    """What ``call`` gives, tried again when it fails in a way that passes, after pauses of ``first`` seconds, twice
    that, and so on to ``longest``. A full disk is not waited for: only others can empty it.

    Raises:
        GivenUpError: it still fails; says ``what`` and why.
    """
    for attempt in range(tries):
        try:
            return call()
        except Exception as error:
            if not passes(error) or is_full(error):
                raise
            if attempt == tries - 1:
                reason = redacted(str(error)) or type(error).__name__
                raise GivenUpError(f"{what}: {reason} (tried {tries} times)") from error
        # Not all workers at the same moment.
        time.sleep(min(longest, first * 2**attempt) * random.uniform(0.75, 1.25))
    raise ValueError("tries must be at least 1")
