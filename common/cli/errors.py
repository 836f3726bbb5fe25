"""Report errors: one line that says what to do, or a traceback where the fault is ours."""

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

# A signal's exit code is 128 and its number.
FAILED, WRONG, INTERRUPTED = 1, 2, 130
EXIT_CODES = (
    "Exit codes: 0 done; 1 some slides failed, a check found something, the machine failed (disk, memory), or MultiMag "
    "itself has a fault (a traceback is printed, please report it); 2 the command or a file is wrong; 130 interrupted; "
    "143 ended by SIGTERM."
)
_PACKAGE = __name__.split(".")[0]
# By which schedulers, service managers and closed terminals end a program.
_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
_RESUMES = "Finished slides, blocks and epochs are kept: the same command resumes"


class CommandError(ValueError):
    """The command line is wrong; says what is right."""


class Ended(BaseException):
    """A signal asked the program to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


@contextmanager
def report_errors(debug: bool = False) -> Iterator[None]:
    """Within, an error that the user can mend ends the program with one line and a code; ``debug`` shows the traceback
    as well.

    Raises:
        SystemExit: in place of such an error.
    """
    try:
        with _unwound():
            yield
    except SystemExit as leaving:
        if not isinstance(leaving.code, str):
            raise
        # Python would print it itself, with the names of files that are in it.
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
            said = f"{type(error).__name__}: {error}. This should not happen: please report it with the lines above"
            _leave(f"error: {said}", FAILED)
        _leave(f"error: {line}", FAILED if _is_of_the_machine(error) else WRONG)


@contextmanager
def _unwound() -> Iterator[None]:
    """Within, a signal that ends the program is raised as :class:`Ended`: what is being written is removed, and
    processes that were started are ended.

    A second one ends the program at once. A signal that something else handles, or that is ignored (nohup), is left to
    that.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    program = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != program:
            # A forked process ends as it would have without this.
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
    """Return what is wrong and what to do, or None if the error is none that the user can mend.

    MONAI wraps what a component raises, several times over; the first cause counts.
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
    """Return whether the command was right and the machine failed: disk or memory."""
    cause = _first_cause(error)
    if isinstance(cause, OSError):
        return cause.errno in (*DISK_FULL_ERRNOS, errno.EIO)
    return isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError"


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
