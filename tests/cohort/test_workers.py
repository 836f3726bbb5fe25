"""Workers end when told to, and every call of a worker is answered."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from common.cohort import local_workers, worker
from common.cohort.dispatch import Dispatcher, SlideTask
from common.cohort.local_workers import LocalWorker, WorkerDiedError
from common.cohort.manifest import CohortSlide
from common.cohort.ray_workers import RayWorker
from common.inference.folder import FolderInUseError


class Idle:
    def describe(self) -> str:
        return "here"


@pytest.mark.parametrize("moment", ["starting", "working"])
def test_a_hung_worker_is_killed(monkeypatch, moment):
    monkeypatch.setattr(local_workers, "_GRACE_SECONDS", 0.5)
    handle = LocalWorker("w0", Idle, 1)
    starting = handle.restart()
    if moment == "working":
        starting.result(60)
        assert handle.submit("describe").result(60) == "here"
    while (process := getattr(handle._server, "_process", None)) is None or process.pid is None:
        time.sleep(0.001)
    hung = psutil.Process(process.pid)
    os.kill(hung.pid, signal.SIGSTOP)
    leaving = threading.Thread(target=handle.shutdown, daemon=True)
    leaving.start()
    leaving.join(60)
    assert not leaving.is_alive()
    assert not psutil.wait_procs([hung], timeout=60)[1]
    if moment == "starting":
        with pytest.raises(WorkerDiedError, match="w0 ended"):
            starting.result(60)


class Deadly(Idle):
    """Ends its process with the number in the slide's name: a signal if negative, else an exit code."""

    def segment(self, slide: CohortSlide, parts: Any = ()) -> dict[str, Any]:
        number = int(slide.name)
        if number < 0:
            os.kill(os.getpid(), -number)
        os._exit(number)


@pytest.mark.all
@pytest.mark.parametrize(
    ("name", "how"), [("-9", r"signal 9 \(SIGKILL\), as when memory runs out"), ("3", "exit code 3")]
)
def test_a_slide_that_kills_its_process_is_given_up_with_the_reason_and_one_log_line_per_try(caplog, name, how):
    handle, ended = LocalWorker("w0", Deadly, 1), []
    try:
        dispatcher = Dispatcher(
            [handle],
            ("describe", ()),
            lambda handle, answer: None,
            lambda task, result: ended.append((task.tries, result["failed"])) or [],
            retries=1,
            first_pause=0.01,
        )
        dispatcher.run([SlideTask(CohortSlide(name, name, {}), 1.0)])
    finally:
        handle.shutdown()
    ((tries, reason),) = ended
    assert tries == 2
    assert re.fullmatch(f"its worker ended in 2 of 2 tries. The last time, w0 ended with {how}", reason)
    lines = [message for message in caplog.messages if "while it had" in message]
    assert len(lines) == 2
    assert all(re.fullmatch(f"w0 ended with {how} while it had {name}", line) for line in lines)


class Gone(Exception):
    """An error of Ray's, whose message may be empty."""


@pytest.mark.parametrize("said", ["", "node lost\nat 10.0.0.1"])
def test_every_call_on_a_cluster_is_answered(said):
    done: Future[Any] = Future()
    actor = SimpleNamespace(segment=SimpleNamespace(remote=lambda: SimpleNamespace(future=lambda: done)))
    remote = SimpleNamespace(options=lambda **how: SimpleNamespace(remote=lambda given: actor))
    ray = SimpleNamespace(
        remote=lambda kind: remote, kill=lambda actor: None, exceptions=SimpleNamespace(RayError=Gone)
    )
    handle = RayWorker(ray, "w0", None, 1, 0, 1)  # type: ignore[arg-type]
    handle.restart().result(0)
    answer = handle.submit("segment")
    done.set_exception(Gone(said))
    with pytest.raises(WorkerDiedError, match=r"w0 is gone \((Gone|node lost)\)"):
        answer.result(0)
    done = Future()
    answer = handle.submit("segment")
    done.cancel()
    with pytest.raises(WorkerDiedError, match="cancelled"):
        answer.result(0)


def test_a_locked_slide_folder_is_waited_for(monkeypatch):
    monkeypatch.setattr(worker, "_LOCK_POLL_SECONDS", 0.001)
    asked = []

    def segment() -> str:
        asked.append(None)
        if len(asked) < 4:
            raise FolderInUseError("s0")
        return "done"

    assert worker._when_unlocked(segment) == "done"
    asked.clear()
    monkeypatch.setattr(worker, "_LOCK_TIMEOUT", -1.0)
    with pytest.raises(FolderInUseError):
        worker._when_unlocked(segment)
