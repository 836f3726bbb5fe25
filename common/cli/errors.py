"""Report errors: one line that says what to do, or a traceback where the fault is ours."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

# Exit codes.
WRONG, INTERRUPTED = 2, 130
_PACKAGE = __name__.split(".")[0]
_DISK = (errno.ENOSPC, errno.EDQUOT) if hasattr(errno, "EDQUOT") else (errno.ENOSPC,)


class CommandError(ValueError):
    """The command line is wrong; says what is right."""


@contextmanager
def report_errors(debug: bool = False) -> Iterator[None]:
    """Within, an error that the user can mend ends the program with one line and a code; ``debug`` shows the traceback
    as well.

    Raises:
        SystemExit: in place of such an error.
    """
    try:
        yield
    except KeyboardInterrupt:
        if debug:
            traceback.print_exc()
        _leave("interrupted. Segmenting, training and cohorts resume when the same command is given again", INTERRUPTED)
    except Exception as error:
        line = one_line(error)
        if line is None or debug:
            traceback.print_exc()
        if line is None:
            line = f"{type(error).__name__}: {error}. This should not happen: please report it with the lines above"
        _leave(line, WRONG)


def one_line(error: BaseException) -> str | None:
    """Return what is wrong and what to do, or None if the error is none that the user can mend.

    MONAI wraps what a component raises, several times over; the first cause counts.
    """
    cause = _first_cause(error)
    if isinstance(cause, OSError):
        return _of_the_system(cause)
    if type(cause).__name__ == "OutOfMemoryError":
        return "the GPU's memory is full. Set a smaller batch_size or block, or device: cpu"
    if isinstance(cause, MemoryError):
        return "the memory is full. Set a smaller batch_size or block"
    if _is_ours(cause):
        return " ".join(str(cause).splitlines())
    return None


def _first_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None and not _is_ours(error):
        error = error.__cause__
    return error


def _is_ours(error: BaseException) -> bool:
    """Return whether an error was written for the user: a class of this project, or a ValueError raised by its code or
    by MONAI's parser of configs.

    A ValueError out of another library's depths means a fault of ours.
    """
    if type(error).__module__.split(".")[0] == _PACKAGE:
        return True
    if not isinstance(error, ValueError) or error.__traceback__ is None:
        return False
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    raised_in = str(frame.f_globals.get("__name__", ""))
    return raised_in.split(".")[0] == _PACKAGE or raised_in.startswith("monai.bundle")


def _of_the_system(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in _DISK:
        return f"{where}the disk is full. Free some space, or choose another --output; the same command resumes"
    return f"{where}{error.strerror or error}"


def _leave(line: str, code: int) -> None:
    sys.stdout.flush()
    print(f"error: {line}" if code == WRONG else line, file=sys.stderr)
    raise SystemExit(code)
