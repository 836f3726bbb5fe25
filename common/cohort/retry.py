"""Retries after failures that may be temporary."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from ..files import DISK_FULL_ERRNOS
from .locations import redact

_Result = TypeVar("_Result")
# Errors whose cause is the file, the permissions or the settings. Our own say so by their attribute ``retryable``.
_PERMANENT = (
    ValueError,
    TypeError,
    KeyError,
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    ImportError,
)
# By name, as the libraries that define them are optional.
_NO_CREDENTIALS = frozenset(("NoCredentialsError", "DefaultCredentialsError"))
# By name, as in bundles that the previous version exported the class has no ``retryable``. Goes with the next version.
_PERMANENT_BEFORE = frozenset(("UnreadableFileError",))
# HTTP status codes below 500 that ask the client to try later.
_TRY_LATER = frozenset((408, 425, 429))


class RetriesExhaustedError(OSError):
    """A temporary failure that outlasted all retries; a later run may succeed."""


def is_retryable(error: BaseException) -> bool:
    """Return whether another try may succeed: after a failure of a server, network, disk or memory, not of the file."""
    if getattr(error, "retryable", True) is False or isinstance(error, _PERMANENT):
        return False
    if any(kind.__name__ in _NO_CREDENTIALS | _PERMANENT_BEFORE for kind in type(error).__mro__):
        return False
    status = getattr(error, "status", None) or getattr(error, "code", None)
    return not (isinstance(status, int) and 400 <= status < 500 and status not in _TRY_LATER)


def is_disk_full(error: BaseException) -> bool:
    """Return whether a disk, or the user's quota on it, is full."""
    return isinstance(error, OSError) and error.errno in DISK_FULL_ERRNOS


def retry(call: Callable[[], _Result], what: str, tries: int = 6, first: float = 0.5, longest: float = 30.0) -> _Result:
    """Return the result of ``call``, retrying it after temporary failures.

    A full disk is not waited for: it does not empty by itself.

    Args:
        call: function to call.
        what: name of the thing in the error's message.
        tries: number of calls at most.
        first: seconds before the first retry. Each further pause is twice as long.
        longest: longest pause in seconds.

    Raises:
        RetriesExhaustedError: every try failed; the message names ``what`` and the last reason.
    """
    for attempt in range(tries):
        try:
            return call()
        except Exception as error:
            if not is_retryable(error) or is_disk_full(error):
                raise
            if attempt == tries - 1:
                reason = redact(str(error)) or type(error).__name__
                raise RetriesExhaustedError(f"{what}: {reason} (tried {tries} times)") from error
        # Random, so that the workers do not all return at the same moment.
        time.sleep(min(longest, first * 2**attempt) * random.uniform(0.75, 1.25))
    raise ValueError("tries must be at least 1")
