"""Estimates of a large cohort's duration, from the costs of a small one."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path

import pandas as pd

from .locations import resolve_location
from .report import SEGMENTED, SEGMENTED_BEFORE, TABLE
from .store import open_store

WORKERS = (1, 4, 16, 64, 256, 1024)
_GBIT_PER_BYTE = 8 / 1e9


@dataclass(frozen=True)
class Costs:
    """Average costs of a slide.

    Attributes:
        seconds_per_mm2: seconds of one worker per predicted mm².
        mm2: predicted area of a slide.
        slide_bytes: bytes of a slide.
        output_bytes: bytes of its outputs.
        overhead_seconds: further seconds of one worker per slide, to assign it and to open and close files.
    """

    seconds_per_mm2: float
    mm2: float
    slide_bytes: float
    output_bytes: float
    overhead_seconds: float = 0.5

    @property
    def seconds(self) -> float:
        """Seconds of one worker per slide."""
        return self.seconds_per_mm2 * self.mm2 + self.overhead_seconds

    def hours(
        self, slides: int, workers: int, gbit: float, worker_gbit: float, max_slides_per_second: float
    ) -> tuple[float, str]:
        """Return the hours that a cohort takes, and its bottleneck: ``"workers"``, ``"a worker's network"``, ``"the
        store's network"`` or ``"the driver"``.

        A worker downloads the next slide and uploads the previous one while it segments one, so the slowest of the
        three counts. The store's network and the driver bound all workers together.

        Args:
            slides: number of slides.
            workers: number of workers.
            gbit: Gbit/s between the store and all workers.
            worker_gbit: Gbit/s of one worker.
            max_slides_per_second: most slides per second that the driver assigns.
        """
        moved = (self.slide_bytes + self.output_bytes) * _GBIT_PER_BYTE
        paces = {
            "workers": workers / self.seconds,
            "a worker's network": workers * worker_gbit / moved,
            "the store's network": gbit / moved,
            "the driver": max_slides_per_second,
        }
        slowest = min(paces, key=lambda name: paces[name])
        return slides / paces[slowest] / 3600, slowest

    def useful_workers(self, gbit: float, max_slides_per_second: float) -> int:
        """Return the number of workers beyond which the cohort is no faster."""
        moved = (self.slide_bytes + self.output_bytes) * _GBIT_PER_BYTE
        return max(1, int(self.seconds * min(gbit / moved, max_slides_per_second)))


def measure_costs(output: str) -> Costs:
    """Return the average costs of a finished cohort's slides.

    Args:
        output: output of the cohort, path or URL.

    Raises:
        ValueError: there is no cohort, or it has no segmented slide.
    """
    store = open_store(output, Path("."))
    content = store.read(TABLE)
    if content is None:
        raise ValueError(f"{resolve_location(output)}: no {TABLE} in it. Name the output of a cohort")
    rows = [
        row for row in csv.DictReader(io.StringIO(content.decode())) if row["status"] in (SEGMENTED, SEGMENTED_BEFORE)
    ]
    if not rows:
        raise ValueError(f"{resolve_location(output)}: nothing was segmented there. Run a few slides first")
    total = {name: sum(float(row[name] or 0) for row in rows) for name in ("segmenting", "predicted_mm2")}
    if not total["predicted_mm2"]:
        raise ValueError(f"{resolve_location(output)}: nothing was predicted on its slides. Run slides with tissue")
    return Costs(
        total["segmenting"] / total["predicted_mm2"],
        total["predicted_mm2"] / len(rows),
        statistics.fmean(float(row["bytes"]) for row in rows),
        statistics.fmean(float(row["output_bytes"]) for row in rows),
    )


def resolve_costs(output: str | None, given: Mapping[str, float]) -> Costs:
    """Return the given costs, completed by those of a finished cohort.

    Raises:
        ValueError: costs are missing and there is no cohort to measure; the message names them.
    """
    known = {**(asdict(measure_costs(output)) if output is not None else {}), **given}
    missing = [each.name for each in fields(Costs) if each.default is MISSING and each.name not in known]
    if missing:
        named = ", ".join(f"--{name.replace('_bytes', '_gb')}" for name in missing)
        raise ValueError(f"{named}: not given. Give them, or --measured with a finished cohort's output")
    return Costs(**known)


def costs_from_options(
    seconds_per_mm2: float | None,
    mm2: float | None,
    slide_gb: float | None,
    output_gb: float | None,
    overhead_seconds: float | None,
) -> dict[str, float]:
    """Return the costs that are not None, under their names in :class:`Costs`, with gigabytes as bytes."""
    given = {
        "seconds_per_mm2": seconds_per_mm2,
        "mm2": mm2,
        "slide_bytes": None if slide_gb is None else slide_gb * 1e9,
        "output_bytes": None if output_gb is None else output_gb * 1e9,
        "overhead_seconds": overhead_seconds,
    }
    return {name: value for name, value in given.items() if value is not None}


def format_estimate(
    costs: Costs, slides: int, gbit: float, worker_gbit: float, max_slides_per_second: float, workers: Sequence[int]
) -> str:
    """Return an estimate as text: costs of a slide, hours by number of workers, and how many workers are useful."""
    table = estimate_table(costs, slides, gbit, worker_gbit, max_slides_per_second, workers)
    return (
        f"a slide: {costs.mm2:.4g} mm² in {costs.seconds:.4g} s of one worker ({costs.seconds_per_mm2:.3g} s/mm²), "
        f"{costs.slide_bytes / 1e9:.3g} GB in, {costs.output_bytes / 1e9:.3g} GB out\n"
        f"{table.round(1).to_string(index=False)}\n"
        f"more than {costs.useful_workers(gbit, max_slides_per_second)} workers make it no faster"
    )


def estimate_table(
    costs: Costs,
    slides: int,
    gbit: float = 10.0,
    worker_gbit: float = 10.0,
    max_slides_per_second: float = 50.0,
    workers: Sequence[int] = WORKERS,
) -> pd.DataFrame:
    """Return a table with a row per number of workers; see :meth:`Costs.hours`."""
    rows = []
    for count in workers:
        hours, bottleneck = costs.hours(slides, count, gbit, worker_gbit, max_slides_per_second)
        rows.append({"workers": count, "hours": hours, "slides_per_hour": slides / hours, "bottleneck": bottleneck})
    return pd.DataFrame(rows)
