"""Workers end when they are told to, and every call of one is answered."""

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

from common.cohort import crew, worker
from common.cohort.crew import LocalMember, WorkerDiedError
from common.cohort.dispatch import Dispatcher, Task
from common.cohort.manifest import CohortSlide
from common.cohort.ray_crew import RayMember
from common.inference.folder import FolderInUseError


class Idle:
    def describe(self) -> str:
        return "here"


@pytest.mark.parametrize("moment", ["starting", "at work"])
def test_a_worker_that_hangs_is_made_to_end(monkeypatch, moment):
    monkeypatch.setattr(crew, "_GRACE", 0.5)
    member = LocalMember("w0", Idle, 1)
    coming = member.revive()
    if moment == "at work":
        coming.result(60)
        assert member.submit("describe").result(60) == "here"
    while (process := getattr(member._server, "_process", None)) is None or process.pid is None:
        time.sleep(0.001)
    hung = psutil.Process(process.pid)
    os.kill(hung.pid, signal.SIGSTOP)
    leaving = threading.Thread(target=member.leave, daemon=True)
    leaving.start()
    leaving.join(60)
    assert not leaving.is_alive()
    assert not psutil.wait_procs([hung], timeout=60)[1]
    if moment == "starting":
        with pytest.raises(WorkerDiedError, match="w0 ended"):
            coming.result(60)


class Deadly(Idle):
    """Ends its process as the slide's name says: with a signal (below 0), or an exit code."""

    def segment(self, slide: CohortSlide, parts: Any = ()) -> dict[str, Any]:
        number = int(slide.name)
        if number < 0:
            os.kill(os.getpid(), -number)
        os._exit(number)


@pytest.mark.all
@pytest.mark.parametrize(
    ("name", "how"), [("-9", r"signal 9 \(SIGKILL\), as when memory runs out"), ("3", "exit code 3")]
)
def test_a_slide_that_kills_its_process_is_given_up_with_the_reason_and_a_line_a_try(caplog, name, how):
    member, ended = LocalMember("w0", Deadly, 1), []
    try:
        dispatcher = Dispatcher(
            [member],
            ("describe", ()),
            lambda member, answer: None,
            lambda task, result: ended.append((task.tries, result["failed"])) or [],
            retries=1,
            pause=0.01,
        )
        dispatcher.run([Task(CohortSlide(name, name, {}), 1.0)])
    finally:
        member.leave()
    ((tries, reason),) = ended
    assert tries == 2
    assert re.fullmatch(f"its worker ended in 2 of 2 tries. The last time, w0 ended with {how}", reason)
    lines = [message for message in caplog.messages if "while it had" in message]
    assert len(lines) == 2
    assert all(re.fullmatch(f"w0 ended with {how} while it had {name}", line) for line in lines)


class Gone(Exception):
    """As Ray's errors: it may say nothing."""


@pytest.mark.parametrize("said", ["", "node lost\nat 10.0.0.1"])
def test_every_call_on_a_cluster_is_answered(said):
    done: Future[Any] = Future()
    actor = SimpleNamespace(segment=SimpleNamespace(remote=lambda: SimpleNamespace(future=lambda: done)))
    remote = SimpleNamespace(options=lambda **how: SimpleNamespace(remote=lambda given: actor))
    ray = SimpleNamespace(
        remote=lambda kind: remote, kill=lambda actor: None, exceptions=SimpleNamespace(RayError=Gone)
    )
    member = RayMember(ray, "w0", None, 1, 0, 1)  # type: ignore[arg-type]
    member.revive().result(0)
    answer = member.submit("segment")
    done.set_exception(Gone(said))
    with pytest.raises(WorkerDiedError, match=r"w0 is gone \((Gone|node lost)\)"):
        answer.result(0)
    done = Future()
    answer = member.submit("segment")
    done.cancel()
    with pytest.raises(WorkerDiedError, match="cancelled"):
        answer.result(0)


def test_a_folder_that_a_lost_machine_had_locked_is_waited_for(monkeypatch):
    monkeypatch.setattr(worker, "_LOOK_AGAIN", 0.001)
    asked = []

    def segment() -> str:
        asked.append(None)
        if len(asked) < 4:
            raise FolderInUseError("s0")
        return "done"

    assert worker._when_free(segment) == "done"
    asked.clear()
    monkeypatch.setattr(worker, "_LOCKED_FOR", -1.0)
    with pytest.raises(FolderInUseError):
        worker._when_free(segment)
