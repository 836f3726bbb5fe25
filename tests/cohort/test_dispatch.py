"""Every slide is assigned, again after a failure, and never to two workers at the same time."""

from __future__ import annotations

import re
import time
from collections import Counter
from concurrent.futures import Future, wait
from itertools import pairwise
from typing import Any

import pytest

from common.cohort import dispatch
from common.cohort.dispatch import Dispatcher, NoWorkersError, SlideTask
from common.cohort.local_workers import WorkerDiedError
from common.cohort.manifest import CohortSlide


class Worker:
    """Acts on a slide by its name: ``ok``, ``flaky`` (fails twice), ``broken`` (fails for good), ``down`` (fails each
    time as if a retry could help), ``deadly`` (kills the worker). The ``dies_of``-th slide kills it, too. An
    ``unhealthy`` worker fails at everything until it is restarted, and a ``broken`` one after that, too. A slide takes
    ``pace`` steps."""

    dies_of = 0
    unhealthy = broken = False
    pace = 1

    def __init__(self, name: str, log: list, running: set, returns: bool = True) -> None:
        self.name, self.log, self.running, self.returns = name, log, running, returns
        self.alive, self.most, self.assigned, self.starts, self.step = True, 0, 0, 0, 0
        self.tasks: dict[Future[Any], str] = {}

    def restart(self) -> Future[Any]:
        future: Future[Any] = Future()
        if self.alive or self.returns:
            self.alive, self.unhealthy = True, self.unhealthy and (self.broken or not self.starts)
            self.starts += 1
            self._lose()
            future.set_result(None)
        else:
            future.set_exception(WorkerDiedError(f"{self.name} does not return"))
        return future

    def submit(self, method: str, *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if method == "describe":
            future.set_result({})
            return future
        name = arguments[0].name
        assert name not in self.running, f"{name} is given to two workers"
        self.running.add(name)
        self.log.append((self.name, name, len(self.tasks)))
        self.tasks[future] = name
        self.most, self.assigned = max(self.most, len(self.tasks)), self.assigned + 1
        if self.assigned == self.dies_of:
            self.alive = False
        return future

    def advance(self) -> None:
        """Finish the slide that it has had longest, if the slide has had its steps."""
        self.step += 1
        if not self.tasks or self.step % self.pace:
            return
        future, name = next(iter(self.tasks.items()))
        kind = name.partition("-")[0]
        if not self.alive or kind == "deadly":
            self.alive = False
            self._lose()
            return
        del self.tasks[future]
        self.running.discard(name)
        tries = sum(entry[1] == name for entry in self.log)
        if kind == "broken":
            future.set_result({"failed": "no slide", "retryable": False})
        elif self.unhealthy or kind == "down" or (kind == "flaky" and tries < 3):
            future.set_result({"failed": "server down", "retryable": True})
        else:
            future.set_result({"record": {}})

    def _lose(self) -> None:
        lost, self.tasks = self.tasks, {}
        self.running -= set(lost.values())
        for one in lost:
            one.set_exception(WorkerDiedError(f"{self.name} died"))

    def shutdown(self) -> None:
        pass


def run(names: list[str], workers: list[Worker], concurrency: int = 1, **options: Any) -> dict[str, tuple[dict, int]]:
    ended: dict[str, tuple[dict, int]] = {}

    def finished(task: SlideTask, result: dict) -> list[SlideTask]:
        assert task.slide.name not in ended
        ended[task.slide.name] = (result, task.tries)
        return []

    options = {"accept": lambda worker, answer: None, "first_pause": 0.01, **options}
    dispatcher = Dispatcher(workers, ("describe", ()), on_finished=finished, max_concurrency=concurrency, **options)

    def time_passes(futures, timeout, **how):
        for worker in workers:
            worker.advance()
        done, rest = wait(futures, min(timeout, 0.002), **how)
        # The worst order: answers that a worker gave before it died come after the news of its death.
        return sorted(done, key=lambda future: future.exception() is None), rest

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(dispatch, "wait", time_passes)
        dispatcher.run([SlideTask(CohortSlide(name, name, {}), float(name.rpartition("-")[2])) for name in names])
    return ended


def fakes(count: int, **options: Any) -> tuple[list[Worker], list]:
    log: list = []
    running: set = set()
    return [Worker(f"w{number}", log, running, **options) for number in range(count)], log


def test_each_slide_is_done_once_the_largest_first():
    workers, log = fakes(3)
    names = [f"ok-{number}" for number in range(30)]
    ended = run(names, workers)
    assert set(ended) == set(names)
    assert Counter(name for _, name, _ in log) == Counter(names)
    assert [name for _, name, _ in log][:3] == ["ok-29", "ok-28", "ok-27"]
    assert len({worker for worker, *_ in log}) == 3
    assert all(worker.most == 1 for worker in workers)


def test_a_worker_prefetches_but_not_what_another_could_start_at_once():
    workers, log = fakes(3)
    run([f"ok-{number}" for number in range(30)], workers, concurrency=3)
    assert all(worker.most == 3 for worker in workers)
    assert all(ahead == 0 for *_, ahead in log[:3])
    # Each of the last slides, as many as there are workers, goes to an idle one.
    assert all(ahead == 0 for *_, ahead in log[-3:])


def test_only_retryable_failures_are_retried():
    workers, log = fakes(2)
    ended = run(["flaky-1", "broken-2", "down-3", "ok-4"], workers, retries=3)
    tries = Counter(name for _, name, _ in log)
    assert tries == {"flaky-1": 3, "broken-2": 1, "down-3": 4, "ok-4": 1}
    assert ended["flaky-1"] == ({"record": {}}, 3)
    assert ended["broken-2"] == ({"failed": "no slide", "retryable": False}, 1)
    assert ended["down-3"] == ({"failed": "server down", "retryable": True}, 4)


def test_a_slide_that_kills_workers_is_given_up_and_its_neighbours_are_not_blamed():
    workers, log = fakes(2)
    names = ["deadly-50", *(f"ok-{number}" for number in range(20))]
    ended = run(names, workers, concurrency=3, retries=2)
    assert set(ended) == set(names)
    reason = r"its worker ended in 3 of 3 tries. The last time, w. died"
    assert re.fullmatch(reason, ended["deadly-50"][0]["failed"])
    assert all(result == {"record": {}} for name, (result, _) in ended.items() if name[0] == "o")
    # Except for the first try, it was alone on its worker.
    alone = [position for position, (_, name, _) in enumerate(log) if name == "deadly-50"]
    assert all(log[position][2] == 0 for position in alone)


def test_every_try_that_a_worker_died_with_is_counted_and_logged_once(caplog):
    workers, log = fakes(2)
    names = ["deadly-50", *(f"ok-{number}" for number in range(20))]
    ended = run(names, workers, concurrency=3, retries=2)
    assert {name: tries for name, (_, tries) in ended.items()} == Counter(name for _, name, _ in log)
    assert ended["deadly-50"][1] == 3
    lines = [message for message in caplog.messages if " while it had " in message]
    assert [line.partition(" while it had ")[2].split(", ")[0] for line in lines] == ["deadly-50"] * 3
    assert all(re.match(r"w. died while it had ", line) for line in lines)


def test_the_slides_of_a_worker_that_does_not_return_go_to_others():
    workers, log = fakes(3)
    workers[0].returns, workers[0].dies_of = False, 2
    names = [f"ok-{number}" for number in range(60)]
    ended = run(names, workers, concurrency=2)
    assert all(ended[name][0] == {"record": {}} for name in names)
    # Only the slides that it had are done again.
    again = Counter(name for _, name, _ in log)
    assert sorted(name for name in again if again[name] > 1) == sorted(
        name for worker, name, _ in log if worker == "w0"
    )
    assert workers[0].assigned == 2


class LastAnswers(Worker):
    """Answers, and then dies."""

    def advance(self) -> None:
        super().advance()
        super().advance()


def test_what_a_worker_answered_before_it_died_counts():
    """Even if the news of its death comes first."""
    log: list = []
    workers = [LastAnswers("w0", log, set())]
    names = ["ok-9", *(f"deadly-{number}" for number in range(3))]
    ended = run(names, workers, concurrency=3, retries=0)
    assert ended["ok-9"][0] == {"record": {}}
    assert sum(name == "ok-9" for _, name, _ in log) == 1


@pytest.mark.parametrize("broken", [False, True])
def test_an_unhealthy_worker_spoils_no_slide(broken):
    """It is idle after each failure, and would be given all of them."""
    workers, log = fakes(4)
    for worker in workers[1:]:
        worker.pace = 10
    names = [f"ok-{number}" for number in range(40)]
    workers[0].unhealthy, workers[0].broken = True, broken
    ended = run(names, workers)
    assert all(result == {"record": {}} and tries <= 3 for result, tries in ended.values())
    assert workers[0].starts > 2 if broken else workers[0].starts == 2
    assert [worker.starts for worker in workers[1:]] == [1, 1, 1]
    # The next try of a failed slide was on another worker.
    tried: dict[str, list[str]] = {}
    for worker, name, _ in log:
        tried.setdefault(name, []).append(worker)
    assert all(one != next_one for by in tried.values() for one, next_one in pairwise(by))


def test_the_worker_timeout_starts_with_the_run():
    workers, _ = fakes(1)
    clock = [0.0]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(dispatch.time, "monotonic", lambda: clock[0])
        patched.setattr(dispatch.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
        dispatcher = Dispatcher(workers, ("describe", ()), lambda worker, answer: None, lambda task, result: [])
        dispatcher.wait_until_ready()
        clock[0] += 10_000
        workers[0].alive = False
        task = SlideTask(CohortSlide("ok-1", "ok-1", {}), 1.0)
        patched.setattr(dispatch, "wait", lambda futures, **how: (workers[0].advance(), wait(futures, **how))[1])
        dispatcher.run([task])


def test_without_workers_the_run_ends_with_the_reason():
    workers, _ = fakes(2, returns=False)
    for worker in workers:
        worker.alive = False
    began = time.monotonic()
    with pytest.raises(NoWorkersError, match=r"no worker for 0.3 seconds: w. does not return. The same command"):
        run(["ok-1"], workers, worker_timeout=0.3)
    assert time.monotonic() - began < 5
    workers, log = fakes(2)
    with pytest.raises(NoWorkersError, match="no GPU"):
        run(["ok-1"], workers, accept=lambda worker, answer: "no GPU")
    assert not log
    # An excluded worker gets nothing; the other does everything.
    ended = run(["ok-1", "ok-2"], workers, accept=lambda worker, answer: "old weights" if worker.name == "w0" else None)
    assert len(ended) == 2
    assert {worker for worker, *_ in log} == {"w1"}
