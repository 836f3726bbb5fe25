"""Measure a Ray cluster's cost per slide, and its throughput by number of workers: tasks of known length that only wait
are dispatched like slides.

    python tests/benchmarks/cohort.py --seconds 60 --per_worker 3

Three nodes of one machine. Writes ``output/benchmarks/cohort.csv``.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import fire
import pandas as pd
import ray
from ray.cluster_utils import Cluster

from common.cohort.dispatch import Dispatcher, SlideTask
from common.cohort.manifest import CohortSlide
from common.cohort.ray_workers import RayWorker

_NODES = 3


class Waiter:
    """A worker whose slides take as long as their entry says."""

    def __init__(self, given: Any = None) -> None:
        pass

    def describe(self, token: str) -> dict[str, Any]:
        # As a worker that loads its network: what a slide's description needs is imported once, before any comes.
        from common.cohort import worker

        return {"worker": worker.__name__}

    def segment(self, slide: CohortSlide, parts: Any = ()) -> dict[str, Any]:
        began = time.monotonic()
        time.sleep(slide.entry["seconds"])
        return {"record": {"seconds": time.monotonic() - began}}


def measure(count: int, slides: int, seconds: float) -> tuple[float, float]:
    """Seconds from giving the first slide out to the last one's end, with all workers there; and of these, how many a
    worker was at its slides, the mean of workers."""
    workers = [RayWorker(ray, f"worker {number}", None, 1, 0, 1, kind=Waiter) for number in range(count)]
    finished: list[str] = []
    at_work: list[float] = []

    def end(task: SlideTask, result: Any) -> list[SlideTask]:
        finished.append(task.slide.name)
        at_work.append(result["record"]["seconds"])
        return []

    dispatcher = Dispatcher(workers, ("describe", ("",)), lambda worker, answer: None, end)
    while dispatcher.ready_workers < count:
        dispatcher.wait_until_ready()
        dispatcher._step()
    began = time.monotonic()
    dispatcher.run([SlideTask(CohortSlide(f"s{number}", "", {"seconds": seconds}), 1.0) for number in range(slides)])
    took = time.monotonic() - began
    assert len(set(finished)) == len(finished) == slides
    for worker in workers:
        worker.shutdown()
    return took, sum(at_work) / count


def main(seconds: float = 1.0, per_worker: int = 20, out: str = "output/benchmarks") -> None:
    """Measure with 1, 2 and 3 workers, each of which gets as many slides."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    for _ in range(_NODES - 1):
        cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    rows = []
    for count in (1, 2, 3):
        took, at_work = measure(count, count * per_worker, seconds)
        each = (took - at_work) / per_worker
        rows.append(
            {
                "workers": count,
                "slides": count * per_worker,
                "seconds_per_slide": seconds,
                "overhead_seconds_per_slide": round(each, 4),
                "overhead_share": round(each / seconds, 5),
                "slides_per_second": count * per_worker / took,
            }
        )
    table = pd.DataFrame(rows)
    table["throughput"] = (table["slides_per_second"] / table["slides_per_second"][0]).round(3)
    Path(out).mkdir(parents=True, exist_ok=True)
    table.to_csv(Path(out) / "cohort.csv", index=False)
    print(table.drop(columns="slides_per_second").to_string(index=False))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    fire.Fire(main)
