"""Assignment of slides to workers, and of failed ones again."""

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

from .local_workers import WorkerDiedError, WorkerHandle
from .manifest import CohortSlide

logger = logging.getLogger(__name__)
# Seconds before the first retry of something, and the factor by which each further pause is longer.
_FIRST_PAUSE, _PAUSE_FACTOR = 2.0, 4.0
_TICK_SECONDS = 1.0
# Failures in a row after which the worker itself may be at fault, as with a hung GPU or a full disk.
_MAX_CONSECUTIVE_FAILURES = 3


@dataclass(eq=False)
class SlideTask:
    """One call of a worker: a slide, or a part of one.

    Attributes:
        slide: the slide.
        size: bytes of the slide, or the part's share of them: a measure of how long the task takes.
        part: number of the part, from 0, and the number of parts; None for a whole slide.
        parts: name of each part and the seconds that it took, for the task that puts them together.
        tries: how often a worker was given the task.
        failures: how often it failed in a way that a retry may mend.
        deaths: how often its worker died.
        exclusive: whether its worker may run nothing else, so that it is known what kills the worker.
        failed_on: worker on which it failed last.
    """

    slide: CohortSlide
    size: float
    part: tuple[int, int] | None = None
    parts: tuple[tuple[str, float], ...] = ()
    tries: int = 0
    failures: int = 0
    deaths: int = 0
    exclusive: bool = False
    failed_on: WorkerHandle | None = None

    @property
    def label(self) -> str:
        """Name of the task in messages."""
        part = "" if self.part is None else f" (part {self.part[0] + 1} of {self.part[1]})"
        return f"{self.slide.name}{part}"


@dataclass(eq=False)
class _WorkerState:
    """The dispatcher's view of a worker."""

    worker: WorkerHandle
    ready: bool = False
    excluded: bool = False
    consecutive_failures: int = 0
    running: dict[Future[Any], SlideTask] = field(default_factory=dict)


class NoWorkersError(ValueError):
    """No worker is left, and none returns."""


class Dispatcher:
    """Runs tasks on workers until each has succeeded or was given up.

    The largest tasks come first, so that none keeps one worker busy long after the others have finished. A worker has
    up to ``max_concurrency`` tasks, so that it downloads the next slide while it segments one. A task that failed in a
    way that a retry may mend is retried after a pause, on another worker if there is one. If a worker dies with several
    tasks, each is retried alone: only a task that kills a worker by itself is given up for it. A worker on which one
    task after another fails is restarted.

    Args:
        workers: the workers.
        prepare: method, with its arguments, that is called on a worker after its start.
        accept: called with a worker and its answer; returns the reason to exclude the worker, or None.
        on_finished: called with a finished task and its result; returns further tasks.
        retries: how often a task is retried.
        max_concurrency: most tasks of a worker at the same time.
        worker_timeout: seconds without any worker after which the run fails.
        on_tick: called about every second.
        first_pause: seconds before the first retry.
    """

    def __init__(
        self,
        workers: Sequence[WorkerHandle],
        prepare: tuple[str, tuple[Any, ...]],
        accept: Callable[[WorkerHandle, Any], str | None],
        on_finished: Callable[[SlideTask, dict[str, Any]], Sequence[SlideTask]],
        retries: int = 3,
        max_concurrency: int = 1,
        worker_timeout: float = 600.0,
        on_tick: Callable[[], None] = lambda: None,
        first_pause: float = _FIRST_PAUSE,
    ) -> None:
        self._states = [_WorkerState(worker) for worker in workers]
        self._prepare, self._accept, self._on_finished = prepare, accept, on_finished
        self._retries, self._max_concurrency, self._worker_timeout = retries, max_concurrency, worker_timeout
        self._on_tick, self._first_pause = on_tick, first_pause
        self._waiting: deque[SlideTask] = deque()
        # Heap of what is due later: the time, a number that breaks ties, and a task to retry or a worker to start.
        self._scheduled: list[tuple[float, int, SlideTask | _WorkerState]] = []
        self._numbers = itertools.count()
        # Each worker that starts, and whether its preparation has been asked for.
        self._starting: dict[Future[Any], tuple[_WorkerState, bool]] = {}
        self._no_workers_since, self._last_reason = time.monotonic(), "none has answered yet"
        for state in self._states:
            self._start(state)

    @property
    def ready_workers(self) -> int:
        """Number of workers that are ready."""
        return sum(state.ready for state in self._states)

    def wait_until_ready(self) -> None:
        """Wait for the first worker.

        Raises:
            NoWorkersError: no worker starts; the message says why.
        """
        while not self.ready_workers:
            self._step()

    def run(self, tasks: Sequence[SlideTask]) -> None:
        """Run tasks until all are finished.

        Raises:
            NoWorkersError: all workers are gone and none returns; the message says why.
        """
        self._no_workers_since = time.monotonic()
        self._waiting.extend(sorted(tasks, key=lambda task: -task.size))
        while self._waiting or any(state.running for state in self._states) or self._has_scheduled_tasks():
            self._step()

    def _step(self) -> None:
        now = time.monotonic()
        while self._scheduled and self._scheduled[0][0] <= now:
            due = heapq.heappop(self._scheduled)[2]
            if isinstance(due, SlideTask):
                self._waiting.appendleft(due)
            else:
                self._start(due)
        self._assign()
        running = [*self._starting, *(future for state in self._states for future in state.running)]
        timeout = max(0.0, min([_TICK_SECONDS, *(moment - now for moment, *_ in self._scheduled[:1])]))
        if running:
            done, _ = wait(running, timeout=timeout, return_when=FIRST_COMPLETED)
        else:
            time.sleep(timeout)
            done = set()
        for future in done:
            self._collect(future)
        self._on_tick()
        self._check_workers()

    def _has_scheduled_tasks(self) -> bool:
        return any(isinstance(what, SlideTask) for *_, what in self._scheduled)

    def _assign(self) -> None:
        """Give each worker one task, then further ones in advance while there are enough for all."""
        for count in range(self._max_concurrency):
            for state in self._states:
                if not self._waiting:
                    return
                if not state.ready or len(state.running) != count:
                    continue
                if any(task.exclusive for task in state.running.values()):
                    continue
                task = self._next_for(state)
                if task is None or state.consecutive_failures >= _MAX_CONSECUTIVE_FAILURES:
                    continue
                if count and (len(self._waiting) <= len(self._states) or task.exclusive):
                    continue
                self._waiting.remove(task)
                self._submit(state, task)

    def _next_for(self, state: _WorkerState) -> SlideTask | None:
        """Return the first waiting task, leaving those that failed on this worker to others if there are any."""
        only = self.ready_workers == 1
        return next((task for task in self._waiting if only or task.failed_on is not state.worker), None)

    def _submit(self, state: _WorkerState, task: SlideTask) -> None:
        task.tries += 1
        if task.part is not None:
            future = state.worker.submit("predict_part", task.slide, task.part)
        else:
            future = state.worker.submit("segment", task.slide, task.parts)
        state.running[future] = task

    def _collect(self, future: Future[Any]) -> None:
        if future in self._starting:
            self._on_started(future, *self._starting.pop(future))
            return
        state = next((state for state in self._states if future in state.running), None)
        if state is None:
            return  # Its worker died, and the task was reassigned.
        try:
            result = future.result()
        except WorkerDiedError as error:
            for other in [other for other in state.running if other.done() and other.exception() is None]:
                self._collect(other)  # Answered before the worker died.
            self._on_worker_died(state, error)
            return
        except Exception as error:
            result = {"failed": f"{type(error).__name__}: {error}", "retryable": True}
        self._on_result(state, state.running.pop(future), result)

    def _on_result(self, state: _WorkerState, task: SlideTask, result: dict[str, Any]) -> None:
        retryable = "failed" in result and result["retryable"]
        state.consecutive_failures = state.consecutive_failures + 1 if retryable else 0
        if retryable:
            task.failed_on = state.worker
        if retryable and task.failures < self._retries:
            self._retry(task)
        else:
            self._waiting.extendleft(self._on_finished(task, result))
        if state.consecutive_failures >= _MAX_CONSECUTIVE_FAILURES and not state.running:
            logger.warning("%s is restarted: %s", state.worker.name, result["failed"])
            self._restart(state)

    def _on_worker_died(self, state: _WorkerState, error: WorkerDiedError) -> None:
        """Retry or give up what a worker was running when it died, and restart it."""
        tasks = list(state.running.values())
        state.running.clear()
        logger.warning("%s while it had %s", error.how, ", ".join(task.label for task in tasks))
        known_cause = len(tasks) == 1
        for task in tasks:
            task.exclusive = True
            task.deaths += 1
            if not known_cause:
                self._waiting.appendleft(task)
            elif task.tries <= self._retries:
                self._retry(task)
            else:
                reason = f"its worker ended in {task.deaths} of {task.tries} tries. The last time, {error}"
                self._waiting.extendleft(self._on_finished(task, {"failed": reason, "retryable": True}))
        self._restart(state)

    def _restart(self, state: _WorkerState) -> None:
        state.ready, state.consecutive_failures = False, 0
        self._start(state)

    def _retry(self, task: SlideTask) -> None:
        pause = self._first_pause * _PAUSE_FACTOR**task.failures
        task.failures += 1
        self._schedule(task, pause)

    def _schedule(self, what: SlideTask | _WorkerState, pause: float) -> None:
        heapq.heappush(self._scheduled, (time.monotonic() + pause, next(self._numbers), what))

    def _start(self, state: _WorkerState) -> None:
        self._starting[state.worker.restart()] = (state, False)

    def _on_started(self, future: Future[Any], state: _WorkerState, prepared: bool) -> None:
        """Prepare a worker that has started, then accept or exclude it. Start it later again if it failed."""
        try:
            answer = future.result()
        except WorkerDiedError as error:
            self._last_reason = str(error)
            self._schedule(state, self._first_pause)
            return
        if prepared and isinstance(answer, dict) and answer.get("retryable"):
            self._last_reason = answer["failed"]
            self._schedule(state, self._first_pause)
        elif prepared:
            reason = self._accept(state.worker, answer)
            state.ready, state.excluded = reason is None, reason is not None
            if reason is not None:
                self._last_reason = reason
                logger.warning("%s is left out: %s", state.worker.name, reason)
        else:
            method, arguments = self._prepare
            self._starting[state.worker.submit(method, *arguments)] = (state, True)

    def _check_workers(self) -> None:
        now = time.monotonic()
        if self.ready_workers:
            self._no_workers_since = now
        elif all(state.excluded for state in self._states):
            raise NoWorkersError(self._last_reason)
        elif now - self._no_workers_since > self._worker_timeout:
            raise NoWorkersError(
                f"no worker for {self._worker_timeout:g} seconds: {self._last_reason}. The same command resumes"
            )
