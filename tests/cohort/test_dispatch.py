"""Every slide is given out, again when it must be, and never twice at a time."""

from __future__ import annotations

import re
import time
from collections import Counter
from concurrent.futures import Future, wait
from itertools import pairwise
from typing import Any

import pytest

from common.cohort import dispatch
from common.cohort.crew import WorkerDiedError
from common.cohort.dispatch import Dispatcher, NoWorkersError, Task
from common.cohort.manifest import CohortSlide


class Worker:
    """Does what a slide's name says: ``ok``, ``flaky`` (fails twice), ``broken`` (for good), ``down`` (passes, but
    never does), ``deadly`` (kills it). Its ``dies_of``-th slide makes it die with all it has. While it is ``ill``,
    nothing goes well; a new life cures it, unless it is ``incurable``. It ends a slide in ``pace`` moments."""

    dies_of = 0
    ill = incurable = False
    pace = 1

    def __init__(self, name: str, log: list, at_work: set, comes_back: bool = True) -> None:
        self.name, self.log, self.at_work, self.comes_back = name, log, at_work, comes_back
        self.alive, self.most, self.given, self.lives, self.moment = True, 0, 0, 0, 0
        self.doing: dict[Future[Any], str] = {}

    def revive(self) -> Future[Any]:
        future: Future[Any] = Future()
        if self.alive or self.comes_back:
            self.alive, self.ill = True, self.ill and (self.incurable or not self.lives)
            self.lives += 1
            self._lose()
            future.set_result(None)
        else:
            future.set_exception(WorkerDiedError(f"{self.name} does not come back"))
        return future

    def submit(self, method: str, *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if method == "describe":
            future.set_result({})
            return future
        name = arguments[0].name
        assert name not in self.at_work, f"{name} is done twice at a time"
        self.at_work.add(name)
        self.log.append((self.name, name, len(self.doing)))
        self.doing[future] = name
        self.most, self.given = max(self.most, len(self.doing)), self.given + 1
        if self.given == self.dies_of:
            self.alive = False
        return future

    def end_one(self) -> None:
        """The slide it has had longest comes to its end."""
        self.moment += 1
        if not self.doing or self.moment % self.pace:
            return
        future, name = next(iter(self.doing.items()))
        kind = name.partition("-")[0]
        if not self.alive or kind == "deadly":
            self.alive = False
            self._lose()
            return
        del self.doing[future]
        self.at_work.discard(name)
        tries = sum(entry[1] == name for entry in self.log)
        if kind == "broken":
            future.set_result({"failed": "no slide", "passes": False})
        elif self.ill or kind == "down" or (kind == "flaky" and tries < 3):
            future.set_result({"failed": "server ill", "passes": True})
        else:
            future.set_result({"record": {}})

    def _lose(self) -> None:
        lost, self.doing = self.doing, {}
        self.at_work -= set(lost.values())
        for one in lost:
            one.set_exception(WorkerDiedError(f"{self.name} died"))

    def leave(self) -> None:
        pass


def run(names: list[str], workers: list[Worker], lanes: int = 1, **options: Any) -> dict[str, tuple[dict, int]]:
    ended: dict[str, tuple[dict, int]] = {}

    def finished(task: Task, result: dict) -> list[Task]:
        assert task.slide.name not in ended
        ended[task.slide.name] = (result, task.tries)
        return []

    options = {"accept": lambda member, answer: None, "pause": 0.01, **options}
    dispatcher = Dispatcher(workers, ("describe", ()), finished=finished, lanes=lanes, **options)

    def time_passes(futures, timeout, **how):
        for worker in workers:
            worker.end_one()
        done, rest = wait(futures, min(timeout, 0.002), **how)
        # The worst order: what a worker said before it died is heard of after its death.
        return sorted(done, key=lambda future: future.exception() is None), rest

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(dispatch, "wait", time_passes)
        dispatcher.run([Task(CohortSlide(name, name, {}), float(name.rpartition("-")[2])) for name in names])
    return ended


def crew(count: int, **options: Any) -> tuple[list[Worker], list]:
    log: list = []
    at_work: set = set()
    return [Worker(f"w{number}", log, at_work, **options) for number in range(count)], log


def test_each_slide_is_done_once_the_largest_first():
    workers, log = crew(3)
    names = [f"ok-{number}" for number in range(30)]
    ended = run(names, workers)
    assert set(ended) == set(names)
    assert Counter(name for _, name, _ in log) == Counter(names)
    assert [name for _, name, _ in log][:3] == ["ok-29", "ok-28", "ok-27"]
    assert len({worker for worker, *_ in log}) == 3
    assert all(worker.most == 1 for worker in workers)


def test_a_worker_fetches_ahead_but_not_what_another_could_begin_at_once():
    workers, log = crew(3)
    run([f"ok-{number}" for number in range(30)], workers, lanes=3)
    assert all(worker.most == 3 for worker in workers)
    assert all(ahead == 0 for *_, ahead in log[:3])
    # The last as many as there are workers are each begun by an idle one.
    assert all(ahead == 0 for *_, ahead in log[-3:])


def test_what_passes_is_tried_again_and_what_does_not_is_not():
    workers, log = crew(2)
    ended = run(["flaky-1", "broken-2", "down-3", "ok-4"], workers, retries=3)
    tries = Counter(name for _, name, _ in log)
    assert tries == {"flaky-1": 3, "broken-2": 1, "down-3": 4, "ok-4": 1}
    assert ended["flaky-1"] == ({"record": {}}, 3)
    assert ended["broken-2"] == ({"failed": "no slide", "passes": False}, 1)
    assert ended["down-3"] == ({"failed": "server ill", "passes": True}, 4)


def test_a_slide_that_kills_workers_is_given_up_and_its_neighbours_are_not_blamed():
    workers, log = crew(2)
    names = ["deadly-50", *(f"ok-{number}" for number in range(20))]
    ended = run(names, workers, lanes=3, retries=2)
    assert set(ended) == set(names)
    reason = r"its worker ended in 3 of 3 tries. The last time, w. died"
    assert re.fullmatch(reason, ended["deadly-50"][0]["failed"])
    assert all(result == {"record": {}} for name, (result, _) in ended.items() if name[0] == "o")
    # But for the first time, it was alone.
    alone = [position for position, (_, name, _) in enumerate(log) if name == "deadly-50"]
    assert all(log[position][2] == 0 for position in alone)


def test_every_try_that_a_worker_died_with_is_counted_and_logged_once(caplog):
    workers, log = crew(2)
    names = ["deadly-50", *(f"ok-{number}" for number in range(20))]
    ended = run(names, workers, lanes=3, retries=2)
    assert {name: tries for name, (_, tries) in ended.items()} == Counter(name for _, name, _ in log)
    assert ended["deadly-50"][1] == 3
    lines = [message for message in caplog.messages if " while it had " in message]
    assert [line.partition(" while it had ")[2].split(", ")[0] for line in lines] == ["deadly-50"] * 3
    assert all(re.match(r"w. died while it had ", line) for line in lines)


def test_the_work_of_a_worker_that_is_gone_for_good_is_done_by_others():
    workers, log = crew(3)
    workers[0].comes_back, workers[0].dies_of = False, 2
    names = [f"ok-{number}" for number in range(60)]
    ended = run(names, workers, lanes=2)
    assert all(ended[name][0] == {"record": {}} for name in names)
    # Done again is what it had, and nothing else.
    again = Counter(name for _, name, _ in log)
    assert sorted(name for name in again if again[name] > 1) == sorted(
        name for worker, name, _ in log if worker == "w0"
    )
    assert workers[0].given == 2


class LastAnswers(Worker):
    """Answers what it has done, and then dies."""

    def end_one(self) -> None:
        super().end_one()
        super().end_one()


def test_what_a_worker_answered_before_it_died_counts():
    """Though its death is heard of first."""
    log: list = []
    workers = [LastAnswers("w0", log, set())]
    names = ["ok-9", *(f"deadly-{number}" for number in range(3))]
    ended = run(names, workers, lanes=3, retries=0)
    assert ended["ok-9"][0] == {"record": {}}
    assert sum(name == "ok-9" for _, name, _ in log) == 1


@pytest.mark.parametrize("incurable", [False, True])
def test_a_worker_that_is_ill_spoils_no_slide(incurable):
    """It is idle whenever something fails, and would have all of them."""
    workers, log = crew(4)
    for worker in workers[1:]:
        worker.pace = 10
    names = [f"ok-{number}" for number in range(40)]
    workers[0].ill, workers[0].incurable = True, incurable
    ended = run(names, workers)
    assert all(result == {"record": {}} and tries <= 3 for result, tries in ended.values())
    assert workers[0].lives > 2 if incurable else workers[0].lives == 2
    assert [worker.lives for worker in workers[1:]] == [1, 1, 1]
    # What failed was tried by another next.
    tried: dict[str, list[str]] = {}
    for worker, name, _ in log:
        tried.setdefault(name, []).append(worker)
    assert all(one != next_one for by in tried.values() for one, next_one in pairwise(by))


def test_the_patience_with_an_empty_house_begins_with_the_work():
    workers, _ = crew(1)
    clock = [0.0]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(dispatch.time, "monotonic", lambda: clock[0])
        patched.setattr(dispatch.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
        dispatcher = Dispatcher(workers, ("describe", ()), lambda member, answer: None, lambda task, result: [])
        dispatcher.wait_for_one()
        clock[0] += 10_000
        workers[0].alive = False
        task = Task(CohortSlide("ok-1", "ok-1", {}), 1.0)
        patched.setattr(dispatch, "wait", lambda futures, **how: (workers[0].end_one(), wait(futures, **how))[1])
        dispatcher.run([task])


def test_without_workers_it_ends_and_says_why():
    workers, _ = crew(2, comes_back=False)
    for worker in workers:
        worker.alive = False
    began = time.monotonic()
    with pytest.raises(NoWorkersError, match=r"no worker for 0.3 seconds: w. does not come back. The same command"):
        run(["ok-1"], workers, patience=0.3)
    assert time.monotonic() - began < 5
    workers, log = crew(2)
    with pytest.raises(NoWorkersError, match="no GPU"):
        run(["ok-1"], workers, accept=lambda member, answer: "no GPU")
    assert not log
    # One that may not work is left out; the other does it all.
    ended = run(["ok-1", "ok-2"], workers, accept=lambda member, answer: "old weights" if member.name == "w0" else None)
    assert len(ended) == 2
    assert {worker for worker, *_ in log} == {"w1"}
