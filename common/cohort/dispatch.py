"""Assigns slides to workers, and reassigns them when a worker dies or an error may pass."""

from __future__ import annotations

import heapq
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any

from .crew import Member, WorkerDiedError
from .manifest import CohortSlide

logger = logging.getLogger(__name__)
# Seconds until something is tried again: this, then so many times as long.
_FIRST_PAUSE, _GROWTH = 2.0, 4.0
_DONE_LINE = 1.0
# Failures in a row after which it may be the worker that is ill: a GPU that answers no more, a full disk.
_ILL = 3


@dataclass(eq=False)
class Task:
    """What one worker does at a time: a slide, or a part of one.

    Attributes:
        slide: the slide.
        size: its bytes, or the part's share of them: how long it is likely to take.
        part: which, from 0 on, of how many.
        parts: names of its parts, when they are to be put together, and the seconds that each took.
        tries: how often a worker was given it.
        failures: how often it went wrong.
        deaths: how often its worker died.
        alone: whether nothing else may run on its worker, so that it is known what kills it.
        failed_on: the worker where it went wrong last.
    """

    slide: CohortSlide
    size: float
    part: tuple[int, int] | None = None
    parts: tuple[tuple[str, float], ...] = ()
    tries: int = 0
    failures: int = 0
    deaths: int = 0
    alone: bool = False
    failed_on: Member | None = None

    @property
    def label(self) -> str:
        """Its name in messages."""
        part = "" if self.part is None else f" (part {self.part[0] + 1} of {self.part[1]})"
        return f"{self.slide.name}{part}"


@dataclass(eq=False)
class _Post:
    """A worker as the dispatcher sees it."""

    member: Member
    ready: bool = False
    left_out: bool = False
    failures: int = 0
    doing: dict[Future[Any], Task] = field(default_factory=dict)


class NoWorkersError(ValueError):
    """No worker is there, nor comes; says why the last one is not."""


class Dispatcher:
    """Runs tasks on workers until each is done or given up.

    The largest come first, so that none is left to work on alone at the end. A worker has up to ``lanes`` tasks: it
    fetches the next while it segments one. What fails in a way that passes is tried again after a pause. When a worker
    dies with several, each is tried again alone: only what kills a worker by itself is blamed. What failed is tried
    again by another worker if there is one, and a worker where one thing after another fails is restarted.

    Args:
        members: the workers.
        prepare: asked of a worker when it comes up: a method and its arguments.
        accept: called with the answer; says why the worker must not work, or None.
        finished: called with a task and what became of it.
        retries: how often something is tried again.
        lanes: tasks that a worker has at a time.
        patience: seconds without a single worker, after which it is an error.
        tick: called about every second.
        pause: seconds until the first retry.
    """

    def __init__(
        self,
        members: Sequence[Member],
        prepare: tuple[str, tuple[Any, ...]],
        accept: Callable[[Member, Any], str | None],
        finished: Callable[[Task, dict[str, Any]], Sequence[Task]],
        retries: int = 3,
        lanes: int = 1,
        patience: float = 600.0,
        tick: Callable[[], None] = lambda: None,
        pause: float = _FIRST_PAUSE,
    ) -> None:
        self._posts = [_Post(member) for member in members]
        self._prepare, self._accept, self._finished = prepare, accept, finished
        self._retries, self._lanes, self._patience = retries, lanes, patience
        self._tick, self._pause = tick, pause
        self._waiting: deque[Task] = deque()
        self._later: list[tuple[float, int, Task | _Post]] = []
        self._numbers = itertools.count()
        self._comings: dict[Future[Any], tuple[_Post, bool]] = {}
        self._deserted_since, self._why = time.monotonic(), "none has answered yet"
        for post in self._posts:
            self._call_up(post)

    @property
    def workers(self) -> int:
        """How many are there."""
        return sum(post.ready for post in self._posts)

    def wait_for_one(self) -> None:
        """Until the first worker is there.

        Raises:
            NoWorkersError: none comes.
        """
        while not self.workers:
            self._step()

    def run(self, tasks: Sequence[Task]) -> None:
        """Do all of these.

        Raises:
            NoWorkersError: all workers are gone, and none comes back.
        """
        self._deserted_since = time.monotonic()
        self._waiting.extend(sorted(tasks, key=lambda task: -task.size))
        while self._waiting or any(post.doing for post in self._posts) or self._tasks_later():
            self._step()

    def _step(self) -> None:
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            due = heapq.heappop(self._later)[2]
            if isinstance(due, Task):
                self._waiting.appendleft(due)
            else:
                self._call_up(due)
        self._hand_out()
        running = [*self._comings, *(future for post in self._posts for future in post.doing)]
        until = min([_DONE_LINE, *(moment - now for moment, *_ in self._later[:1])])
        if running:
            done, _ = wait(running, timeout=max(0.0, until), return_when=FIRST_COMPLETED)
        else:
            time.sleep(max(0.0, until))
            done = set()
        for future in done:
            self._take_in(future)
        self._tick()
        self._check_anyone_is_there()

    def _tasks_later(self) -> bool:
        return any(isinstance(what, Task) for *_, what in self._later)

    def _hand_out(self) -> None:
        """First one task to each worker, then further ones ahead, as long as there are enough for all."""
        for lane in range(self._lanes):
            for post in self._posts:
                if not self._waiting:
                    return
                if not post.ready or len(post.doing) != lane or any(task.alone for task in post.doing.values()):
                    continue
                task = self._next_for(post)
                if task is None or post.failures >= _ILL:
                    continue
                if lane and (len(self._waiting) <= len(self._posts) or task.alone):
                    continue
                self._waiting.remove(task)
                self._begin(post, task)

    def _next_for(self, post: _Post) -> Task | None:
        """The first that waits; what failed here is left to others, if there are any."""
        only = self.workers == 1
        return next((task for task in self._waiting if only or task.failed_on is not post.member), None)

    def _begin(self, post: _Post, task: Task) -> None:
        task.tries += 1
        if task.part is not None:
            future = post.member.submit("predict_part", task.slide, task.part)
        else:
            future = post.member.submit("segment", task.slide, task.parts)
        post.doing[future] = task

    def _take_in(self, future: Future[Any]) -> None:
        if future in self._comings:
            self._came_up(future, *self._comings.pop(future))
            return
        post = next((post for post in self._posts if future in post.doing), None)
        if post is None:
            return  # Its worker died, and the slide was reassigned.
        try:
            result = future.result()
        except WorkerDiedError as error:
            for other in [other for other in post.doing if other.done() and other.exception() is None]:
                self._take_in(other)  # It had answered before.
            self._lost(post, error)
            return
        except Exception as error:
            result = {"failed": f"{type(error).__name__}: {error}", "passes": True}
        task = post.doing.pop(future)
        ailing = "failed" in result and result["passes"]
        post.failures = post.failures + 1 if ailing else 0
        if ailing:
            task.failed_on = post.member
        if ailing and task.failures < self._retries:
            self._again(task)
        else:
            self._waiting.extendleft(self._finished(task, result))
        if post.failures >= _ILL and not post.doing:
            logger.warning("%s is restarted: %s", post.member.name, result["failed"])
            self._replace(post)

    def _lost(self, post: _Post, error: WorkerDiedError) -> None:
        """A worker died: what it was doing is done again, by whoever is there."""
        tasks = list(post.doing.values())
        post.doing.clear()
        logger.warning("%s while it had %s", error.how, ", ".join(task.label for task in tasks))
        blamed = len(tasks) == 1
        for task in tasks:
            task.alone = True
            task.deaths += 1
            if not blamed:
                self._waiting.appendleft(task)
            elif task.tries <= self._retries:
                self._again(task)
            else:
                reason = f"its worker ended in {task.deaths} of {task.tries} tries. The last time, {error}"
                self._waiting.extendleft(self._finished(task, {"failed": reason, "passes": True}))
        self._replace(post)

    def _replace(self, post: _Post) -> None:
        post.ready, post.failures = False, 0
        self._call_up(post)

    def _again(self, task: Task) -> None:
        pause = self._pause * _GROWTH**task.failures
        task.failures += 1
        self._put_off(task, pause)

    def _put_off(self, what: Task | _Post, pause: float) -> None:
        heapq.heappush(self._later, (time.monotonic() + pause, next(self._numbers), what))

    def _call_up(self, post: _Post) -> None:
        self._comings[post.member.revive()] = (post, False)

    def _came_up(self, future: Future[Any], post: _Post, asked: bool) -> None:
        try:
            answer = future.result()
        except WorkerDiedError as error:
            self._why = str(error)
            self._put_off(post, self._pause)
            return
        if asked and isinstance(answer, dict) and answer.get("passes"):
            self._why = answer["failed"]
            self._put_off(post, self._pause)
        elif asked:
            reason = self._accept(post.member, answer)
            post.ready, post.left_out = reason is None, reason is not None
            if reason is not None:
                self._why = reason
                logger.warning("%s is left out: %s", post.member.name, reason)
        else:
            method, arguments = self._prepare
            self._comings[post.member.submit(method, *arguments)] = (post, True)

    def _check_anyone_is_there(self) -> None:
        now = time.monotonic()
        if self.workers:
            self._deserted_since = now
        elif all(post.left_out for post in self._posts):
            raise NoWorkersError(self._why)
        elif now - self._deserted_since > self._patience:
            raise NoWorkersError(f"no worker for {self._patience:g} seconds: {self._why}. The same command goes on")
