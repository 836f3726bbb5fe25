"""Report errors: one line with the remedy, or a traceback if the fault is ours."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ..files import DISK_FULL_ERRNOS, printable, printable_line

# The exit code of a signal is 128 plus its number.
FAILED, WRONG, INTERRUPTED = 1, 2, 130
EXIT_CODES = (
    "Exit codes: 0 done; 1 some slides failed, a check found something, the machine failed (disk, memory), or MultiMag "
    "itself has a fault (a traceback is printed, please report it); 2 the command or a file is wrong; 130 interrupted; "
    "143 ended by SIGTERM."
)
_PACKAGE = __name__.split(".")[0]
# Signals by which schedulers, service managers and closed terminals end a program.
_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
_RESUMES = "Finished slides, blocks and epochs are kept: the same command resumes"


class CommandError(ValueError):
    """The command line is wrong; the message says what is right."""


class Ended(BaseException):
    """A signal asked the program to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


@contextmanager
def report_errors(debug: bool = False) -> Iterator[None]:
    """Exit with one line and a code on an error in the block that the user can fix.

    Args:
        debug: show the traceback as well.

    Raises:
        SystemExit: instead of such an error.
    """
    try:
        with _unwound():
            yield
    except SystemExit as leaving:
        if not isinstance(leaving.code, str):
            raise
        # Python would print the message itself, with any control characters of file names in it.
        _leave(leaving.code, FAILED)
    except KeyboardInterrupt:
        if debug:
            traceback.print_exc()
        _leave(f"interrupted. {_RESUMES}", INTERRUPTED)
    except Ended as error:
        if debug:
            traceback.print_exc()
        _leave(f"ended by {error}. {_RESUMES}", error.code)
    except Exception as error:
        line = one_line(error)
        if line is None or debug:
            traceback.print_exc()
        if line is None:
            text = f"{type(error).__name__}: {error}. This should not happen: please report it with the lines above"
            _leave(f"error: {text}", FAILED)
        _leave(f"error: {line}", FAILED if _is_of_the_machine(error) else WRONG)


@contextmanager
def _unwound() -> Iterator[None]:
    """Raise a signal that ends the program as :class:`Ended` in the block, so that it cleans up.

    Unfinished files are removed and child processes ended. A second signal ends the program at once. Signals that have
    another handler, or are ignored (nohup), stay so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    program = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != program:
            # A forked process ends as usual.
            os.kill(os.getpid(), number)
            return
        raise Ended(number)

    handled = [number for number in _ENDING if signal.getsignal(number) is signal.SIG_DFL]
    for number in handled:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, signal.SIG_DFL)


def one_line(error: BaseException) -> str | None:
    """Return the problem and its remedy, or None if the user cannot fix the error.

    MONAI wraps the errors of a component several times; the first cause counts.
    """
    cause = _first_cause(error)
    if isinstance(cause, OSError):
        return printable_line(_of_the_system(cause))
    if type(cause).__name__ == "OutOfMemoryError":
        return "the GPU's memory is full. Set a smaller batch_size or block, or device: cpu"
    if isinstance(cause, MemoryError):
        return "the memory is full. Set a smaller batch_size or block"
    if _is_ours(cause):
        return printable_line(" ".join(str(cause).splitlines()))
    return None


def _is_of_the_machine(error: BaseException) -> bool:
    """Return whether the machine failed (disk or memory) and the command was right."""
    cause = _first_cause(error)
    if isinstance(cause, OSError):
        return cause.errno in (*DISK_FULL_ERRNOS, errno.EIO)
    return isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError"


def _first_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None and not _is_ours(error):
        error = error.__cause__
    return error


def _is_ours(error: BaseException) -> bool:
    """Return whether an error was written for the user.

    That is an error class of this project, or a ValueError raised by its code or by MONAI's config parser. A ValueError
    from inside another library means a fault of ours.
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
    if error.errno == errno.EFBIG:
        return f"{where}the file would be larger than the file system, or ulimit -f, allows. Choose another --output"
    if error.errno in DISK_FULL_ERRNOS:
        return f"{where}the disk is full. Free some space, or choose another --output; the same command resumes"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{where}{error.strerror}. Choose another place, or ask for the right"
    return f"{where}{error.strerror or error}"


def _leave(line: str, code: int) -> None:
    sys.stdout.flush()
    print(printable(line), file=sys.stderr)
    raise SystemExit(code)
