"""Workers on a Ray cluster, each an actor."""

from __future__ import annotations

import contextlib
import functools
from concurrent.futures import Future
from typing import Any

from .local_workers import WorkerDiedError
from .worker import SlideWorker, WorkerSettings

_EXTRA = 'pip install -e ".[ray]"'


def connect(address: str) -> Any:
    """Return Ray, connected to a cluster.

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
        raise ValueError(
            f"cannot connect to a Ray cluster at {address}: {error}. Start one with: ray start --head"
        ) from error
    return ray


def plan_workers(ray: Any, workers: int | None, cpus: int | None, gpus: int | None) -> tuple[int, int, int]:
    """Return the number of workers, and the processors and GPUs of each.

    By default there is one worker per GPU where the cluster has GPUs, else one per machine, or as many as have ``cpus``
    processors each. Workers that do not fit wait for further machines.

    Args:
        ray: Ray, connected.
        workers, cpus, gpus: the numbers if they are given.

    Raises:
        ValueError: ``workers`` is not given, and no machine has room for one.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = gpus if gpus is not None else int(any(node.get("GPU", 0) >= 1 for node in nodes))
    nodes = [node for node in nodes if node.get("CPU", 0) >= 1 and node.get("GPU", 0) >= gpus]
    shares = [int(node["CPU"] // (node["GPU"] if gpus else 1)) for node in nodes]
    each = cpus or max(1, min(shares, default=1))
    room = (min(node["CPU"] // each, node["GPU"]) if gpus else node["CPU"] // each for node in nodes)
    count = workers or int(sum(room))
    if count < 1:
        kind = f"{each} processors and a GPU" if gpus else f"{each} processors"
        raise ValueError(
            f"no machine of the Ray cluster has {kind}. Lower --cpus, or set --workers and wait for machines"
        )
    return count, each, gpus


class RayWorker:
    """A worker on any machine of a Ray cluster that has room for it.

    Args:
        ray: Ray, connected.
        name: name in messages.
        settings: settings of the worker.
        cpus, gpus: processors and GPUs reserved for it.
        max_concurrency: most tasks at the same time.
        kind: class of the worker.
    """

    def __init__(
        self,
        ray: Any,
        name: str,
        settings: WorkerSettings,
        cpus: int,
        gpus: int,
        max_concurrency: int,
        kind: type = SlideWorker,
    ) -> None:
        self.name, self._ray = name, ray
        # The dispatcher retries tasks of dead workers, and counts the tries.
        no_retries = {"max_restarts": 0, "max_task_retries": 0}
        resources = {"num_cpus": cpus, "num_gpus": gpus, "max_concurrency": max_concurrency + 1}
        options = {**resources, **no_retries, "scheduling_strategy": "SPREAD"}
        self._make = functools.partial(ray.remote(kind).options(**options).remote, settings)
        self._actor: Any = None

    def submit(self, method: str, *arguments: Any) -> Future[Any]:
        """See :class:`~.local_workers.WorkerHandle`."""
        answer: Future[Any] = Future()
        answer.set_running_or_notify_cancel()
        getattr(self._actor, method).remote(*arguments).future().add_done_callback(
            lambda done: self._forward(done, answer)
        )
        return answer

    def restart(self) -> Future[Any]:
        """See :class:`~.local_workers.WorkerHandle`. Calls wait until Ray has found room for the worker."""
        self.shutdown()
        self._actor = self._make()
        ready: Future[Any] = Future()
        ready.set_result(None)
        return ready

    def shutdown(self) -> None:
        """See :class:`~.local_workers.WorkerHandle`."""
        if self._actor is not None:
            # Even if it seems dead: another worker may have its slide by now.
            with contextlib.suppress(Exception):
                self._ray.kill(self._actor)

    def _forward(self, done: Future[Any], answer: Future[Any]) -> None:
        """Pass the outcome of a call on, with Ray's errors as :class:`WorkerDiedError`."""
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
