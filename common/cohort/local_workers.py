"""Workers on this machine, each in a process of its own."""

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

from .locations import redact

# Characters of a dead worker's output that its error quotes.
_LAST_WORDS = 2000
# Seconds that a worker has to end by itself.
_GRACE_SECONDS = 5.0
# Errors of a call whose process has ended.
_CONNECTION_LOST = (EOFError, ConnectionError)


class WorkerDiedError(Exception):
    """A worker ended before it answered.

    Args:
        how: name of the worker, and the signal or exit code with which it ended.
        last_words: end of its output.
    """

    def __init__(self, how: str, last_words: str = "") -> None:
        super().__init__(f"{how}. Its last words: {last_words}" if last_words else how)
        self.how = how


class WorkerHandle(Protocol):
    """A worker in this or another process, or on another machine."""

    name: str

    def submit(self, method: str, *arguments: Any) -> Future[Any]:
        """Call a method of the worker. The future raises :class:`WorkerDiedError` if the worker ends before."""

    def restart(self) -> Future[Any]:
        """Start the worker, ending it first if it runs. The future is done once the worker is ready."""

    def shutdown(self) -> None:
        """End the worker."""


class _Server(BaseManager):
    """A process that holds a worker and takes calls from several threads at once."""


def _create(make: Callable[[], Any]) -> Any:
    return make()


_Server.register("create", callable=_create, exposed=["describe", "segment", "predict_part"])


def _set_up_process(log: str) -> None:
    """Redirect the new process's output to a file, and end the process with its parent."""
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


class LocalWorker:
    """A worker in a process of its own, so that whatever kills it does not end the cohort.

    Args:
        name: name in messages.
        make: function that creates the worker in its process; it must be picklable.
        max_concurrency: most tasks at the same time.
    """

    def __init__(self, name: str, make: Callable[[], Any], max_concurrency: int) -> None:
        self.name, self._make = name, make
        # One more, for the start.
        self._calls = ThreadPoolExecutor(max_concurrency + 1)
        # Of two threads that wait for a process at once, one would not learn its exit code.
        self._waits = threading.Lock()
        self._server: Any = None
        self._worker: Any = None
        self._log = tempfile.NamedTemporaryFile(prefix="multimag-worker-", suffix=".log")  # noqa: SIM115

    def submit(self, method: str, *arguments: Any) -> Future[Any]:
        """See :class:`WorkerHandle`."""
        return self._calls.submit(self._call, self._worker, self._process(), method, arguments)

    def restart(self) -> Future[Any]:
        """See :class:`WorkerHandle`."""
        return self._calls.submit(self._start)

    def shutdown(self) -> None:
        """See :class:`WorkerHandle`."""
        self._stop()
        self._calls.shutdown(wait=False, cancel_futures=True)
        self._log.close()

    def _start(self) -> None:
        self._stop()
        # The log is that of the new process only.
        self._log.truncate(0)
        server: Any = _Server(ctx=multiprocessing.get_context("spawn"))
        # Before it starts: a process that hangs while it starts must be ended, too.
        self._server = server
        try:
            server.start(initializer=_set_up_process, initargs=(self._log.name,))
            self._worker = server.create(self._make)
        except (*_CONNECTION_LOST, OSError) as error:
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
        # A worker that does not end when asked, as in the middle of a slide, is killed. The next run resumes the slide.
        timer = threading.Timer(_GRACE_SECONDS, process.kill)
        timer.start()
        server.shutdown()
        timer.cancel()

    def _call(self, worker: Any, process: Any, method: str, arguments: tuple[Any, ...]) -> Any:
        try:
            return getattr(worker, method)(*arguments)
        except _CONNECTION_LOST as error:
            raise self._died(process) from error

    def _died(self, process: Any) -> WorkerDiedError:
        exit_code = None
        if process is not None:
            with self._waits:
                process.join(_GRACE_SECONDS)
                exit_code = process.exitcode
        words = ""
        with contextlib.suppress(OSError):
            words = redact(Path(self._log.name).read_text(encoding="utf-8", errors="replace")[-_LAST_WORDS:].strip())
        return WorkerDiedError(f"{self.name} {_how_it_ended(exit_code)}", words)


def _how_it_ended(exit_code: int | None) -> str:
    if exit_code is None:
        return "ended"
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    names = {number.value: f" ({number.name})" for number in signal.Signals}
    cause = ", as when memory runs out" if names.get(-exit_code) == " (SIGKILL)" else ""
    return f"ended with signal {-exit_code}{names.get(-exit_code, '')}{cause}"
