"""Workers on this machine, each a process of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import connection
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any, Protocol

from .locations import redacted

_LAST_WORDS = 2000
# Seconds that a worker has to end by itself.
_GRACE = 5.0
# What calling a process that ended raises.
_GONE = (EOFError, ConnectionError)


class WorkerDiedError(Exception):
    """A worker is gone, and with it what it was doing.

    Args:
        how: names the worker, and the signal or exit code with which it ended.
        last_words: the end of its output.
    """

    def __init__(self, how: str, last_words: str = "") -> None:
        super().__init__(f"{how}. Its last words: {last_words}" if last_words else how)
        self.how = how


class Member(Protocol):
    """A worker, wherever it is."""

    name: str

    def submit(self, method: str, *arguments: Any) -> Future[Any]:
        """Call a method of the worker; the future raises :class:`WorkerDiedError` if it is gone before it answers."""

    def revive(self) -> Future[Any]:
        """Start the worker, or restart it if it died. The future is done once the worker is ready."""

    def leave(self) -> None:
        """End the worker."""


class _Server(BaseManager):
    """Holds a worker in a process of its own; calls from several threads reach it at once."""


def _made(make: Callable[[], Any]) -> Any:
    return make()


_Server.register("made", callable=_made, exposed=["describe", "segment", "predict_part"])


def _begin(log: str) -> None:
    """In the new process: its output goes to a file, and it ends when its parent does."""
    # Before tqdm is imported. A bar for every slide would fill the file.
    os.environ["TQDM_DISABLE"] = "1"
    with Path(log).open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class LocalMember:
    """A worker in a process of its own: what kills it does not kill the cohort.

    Args:
        name: what it is called.
        make: makes the worker there; must pickle.
        lanes: how many of its methods run at once.
    """

    def __init__(self, name: str, make: Callable[[], Any], lanes: int) -> None:
        self.name, self._make = name, make
        self._calls = ThreadPoolExecutor(lanes + 1)
        # Of two threads that wait for a process at once, one would not learn its exit code.
        self._waits = threading.Lock()
        self._server: Any = None
        self._worker: Any = None
        self._log = tempfile.NamedTemporaryFile(prefix="multimag-worker-", suffix=".log")  # noqa: SIM115

    def submit(self, method: str, *arguments: Any) -> Future[Any]:
        """See :class:`Member`."""
        return self._calls.submit(self._call, self._worker, self._process(), method, arguments)

    def revive(self) -> Future[Any]:
        """See :class:`Member`."""
        return self._calls.submit(self._start)

    def leave(self) -> None:
        """See :class:`Member`."""
        self._stop()
        self._calls.shutdown(wait=False, cancel_futures=True)
        self._log.close()

    def _start(self) -> None:
        self._stop()
        # Last words are of the last life.
        self._log.truncate(0)
        server: Any = _Server(ctx=multiprocessing.get_context("spawn"))
        # Already now: one that hangs while it starts must be made to end, too.
        self._server = server
        try:
            server.start(initializer=_begin, initargs=(self._log.name,))
            self._worker = server.made(self._make)
        except (*_GONE, OSError) as error:
            raise self._died(self._process()) from error

    def _process(self) -> Any:
        return getattr(self._server, "_process", None)

    def _stop(self) -> None:
        process, server, self._server = self._process(), self._server, None
        if process is None:
            return
        if not hasattr(server, "shutdown"):  # It has not answered yet, and may never.
            process.kill()
            return
        # Asked first; then, it may be in the middle of a slide, made to. The next run goes on with that.
        late = threading.Timer(_GRACE, process.kill)
        late.start()
        server.shutdown()
        late.cancel()

    def _call(self, worker: Any, process: Any, method: str, arguments: tuple[Any, ...]) -> Any:
        try:
            return getattr(worker, method)(*arguments)
        except _GONE as error:
            raise self._died(process) from error

    def _died(self, process: Any) -> WorkerDiedError:
        exit_code = None
        if process is not None:
            with self._waits:
                process.join(_GRACE)
                exit_code = process.exitcode
        words = ""
        with contextlib.suppress(OSError):
            words = redacted(Path(self._log.name).read_text(encoding="utf-8", errors="replace")[-_LAST_WORDS:].strip())
        return WorkerDiedError(f"{self.name} {_how_it_ended(exit_code)}", words)


def _how_it_ended(exit_code: int | None) -> str:
    if exit_code is None:
        return "ended"
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    names = {number.value: f" ({number.name})" for number in signal.Signals}
    cause = ", as when memory runs out" if names.get(-exit_code) == " (SIGKILL)" else ""
    return f"ended with signal {-exit_code}{names.get(-exit_code, '')}{cause}"
