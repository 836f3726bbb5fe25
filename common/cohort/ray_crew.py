"""Workers on a Ray cluster, each an actor."""

from __future__ import annotations

import contextlib
import functools
from concurrent.futures import Future
from typing import Any

from .crew import WorkerDiedError
from .worker import Worker, WorkerSettings

_EXTRA = 'pip install -e ".[ray]"'


def connect(address: str) -> Any:
    """Ray, connected to a cluster.

    Raises:
        ValueError: Ray is not installed, or there is no cluster at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise ValueError(f"--ray needs Ray: {_EXTRA}") from error
    try:
        ray.init(address=address, log_to_driver=False, ignore_reinit_error=True)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise ValueError(f"no Ray cluster at {address} for us: {error}. Start one with: ray start --head") from error
    return ray


def workers_of(ray: Any, workers: int | None, cpus: int | None, gpus: int | None) -> tuple[int, int, int]:
    """How many workers there are to be, and the processors and GPUs of each: what is asked for, else one worker per GPU
    where there are GPUs, else one per machine, or as many as have ``cpus`` processors each. More than there is room for
    wait for machines to come.

    Raises:
        ValueError: it is not said how many, and no machine has room for one.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = gpus if gpus is not None else int(any(node.get("GPU", 0) >= 1 for node in nodes))
    nodes = [node for node in nodes if node.get("CPU", 0) >= 1 and node.get("GPU", 0) >= wanted]
    shares = [int(node["CPU"] // (node["GPU"] if wanted else 1)) for node in nodes]
    each = cpus or max(1, min(shares, default=1))
    room = (min(node["CPU"] // each, node["GPU"]) if wanted else node["CPU"] // each for node in nodes)
    count = workers or int(sum(room))
    if count < 1:
        kind = f"{each} processors and a GPU" if wanted else f"{each} processors"
        raise ValueError(f"no machine of the Ray cluster has {kind}. Lower --cpus, or say --workers and wait for some")
    return count, each, wanted


class RayMember:
    """A worker on a cluster, wherever there is room for it.

    Args:
        ray: Ray.
        name: what it is called.
        given: what the worker is made with.
        cpus, gpus: that are its own.
        lanes: how many of its methods run at once.
        kind: what is made.
    """

    def __init__(
        self, ray: Any, name: str, given: WorkerSettings, cpus: int, gpus: int, lanes: int, kind: type = Worker
    ) -> None:
        self.name, self._ray = name, ray
        # What was being done when it died is reassigned by the cohort, which counts how often.
        again = {"max_restarts": 0, "max_task_retries": 0}
        own = {"num_cpus": cpus, "num_gpus": gpus, "max_concurrency": lanes + 1, "scheduling_strategy": "SPREAD"}
        self._make = functools.partial(ray.remote(kind).options(**own, **again).remote, given)
        self._actor: Any = None

    def submit(self, method: str, *arguments: Any) -> Future[Any]:
        """See :class:`Member`."""
        answer: Future[Any] = Future()
        answer.set_running_or_notify_cancel()
        getattr(self._actor, method).remote(*arguments).future().add_done_callback(
            lambda done: self._pass(done, answer)
        )
        return answer

    def revive(self) -> Future[Any]:
        """See :class:`Member`. What is submitted waits until Ray has found room."""
        self.leave()
        self._actor = self._make()
        ready: Future[Any] = Future()
        ready.set_result(None)
        return ready

    def leave(self) -> None:
        """See :class:`Member`."""
        if self._actor is not None:
            # Gone or not, it must not go on with what another may be doing.
            with contextlib.suppress(Exception):
                self._ray.kill(self._actor)

    def _pass(self, done: Future[Any], answer: Future[Any]) -> None:
        if done.cancelled():
            answer.set_exception(WorkerDiedError(f"{self.name} is gone (its call was cancelled)"))
            return
        error = done.exception()
        if error is None:
            answer.set_result(done.result())
        elif isinstance(error, self._ray.exceptions.RayError):
            reason = [*str(error).splitlines(), type(error).__name__][0]
            answer.set_exception(WorkerDiedError(f"{self.name} is gone ({reason})"))
        else:
            answer.set_exception(error)
