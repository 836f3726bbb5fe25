"""How long a cohort will take, from what a small one took."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path

import pandas as pd

from .account import BEFORE, SEGMENTED, TABLE
from .locations import location_of
from .store import open_store

WORKERS = (1, 4, 16, 64, 256, 1024)
_BITS = 8 / 1e9


@dataclass(frozen=True)
class Costs:
    """What a slide costs.

    Attributes:
        seconds_per_mm2: of one worker, for a mm² that is predicted.
        mm2: predicted of a slide.
        slide_bytes: that come.
        output_bytes: that go.
        seconds_per_slide: overhead of one worker per slide: assigning, opening, closing files.
    """

    seconds_per_mm2: float
    mm2: float
    slide_bytes: float
    output_bytes: float
    seconds_per_slide: float = 0.5

    @property
    def seconds(self) -> float:
        """Of one worker for a slide."""
        return self.seconds_per_mm2 * self.mm2 + self.seconds_per_slide

    def hours(self, slides: int, workers: int, gbit: float, worker_gbit: float, dispatched: float) -> tuple[float, str]:
        """How long it takes, and what sets the pace: ``"workers"``, ``"a worker's network"``, ``"the store's network"``
        or ``"the driver"``.

        A worker fetches the next slide and hands the one before over while it segments one: of the three the longest
        counts. All workers together get no more than the store gives, and no more slides than the driver gives out.

        Args:
            slides: how many.
            workers: how many.
            gbit: Gbit/s between the store and all workers.
            worker_gbit: Gbit/s of one worker.
            dispatched: slides per second that the driver gives out at most.
        """
        moved = (self.slide_bytes + self.output_bytes) * _BITS
        paces = {
            "workers": workers / self.seconds,
            "a worker's network": workers * worker_gbit / moved,
            "the store's network": gbit / moved,
            "the driver": dispatched,
        }
        slowest = min(paces, key=lambda name: paces[name])
        return slides / paces[slowest] / 3600, slowest

    def most_workers(self, gbit: float, dispatched: float) -> int:
        """With more than so many workers it goes no faster."""
        moved = (self.slide_bytes + self.output_bytes) * _BITS
        return max(1, int(self.seconds * min(gbit / moved, dispatched)))


def measured(output: str) -> Costs:
    """Costs as a finished cohort had them: totals over its slides.

    Args:
        output: of the cohort, path or URL.

    Raises:
        ValueError: there is no cohort, or nothing was segmented in it.
    """
    store = open_store(output, Path("."))
    content = store.read(TABLE)
    if content is None:
        raise ValueError(f"{location_of(output)}: no {TABLE} in it. Name the output of a cohort")
    rows = [row for row in csv.DictReader(io.StringIO(content.decode())) if row["status"] in (SEGMENTED, BEFORE)]
    if not rows:
        raise ValueError(f"{location_of(output)}: nothing was segmented there. Run a few slides first")
    total = {name: sum(float(row[name] or 0) for row in rows) for name in ("segmenting", "predicted_mm2")}
    if not total["predicted_mm2"]:
        raise ValueError(f"{location_of(output)}: nothing was predicted on its slides. Run slides with tissue")
    return Costs(
        total["segmenting"] / total["predicted_mm2"],
        total["predicted_mm2"] / len(rows),
        statistics.fmean(float(row["bytes"]) for row in rows),
        statistics.fmean(float(row["output_bytes"]) for row in rows),
    )


def costs_of(output: str | None, given: Mapping[str, float]) -> Costs:
    """Costs that are given, and for the rest those of a finished cohort.

    Raises:
        ValueError: some are not given, and there is no cohort to read them off; names them.
    """
    known = {**(asdict(measured(output)) if output is not None else {}), **given}
    missing = [each.name for each in fields(Costs) if each.default is MISSING and each.name not in known]
    if missing:
        named = ", ".join(f"--{name.replace('_bytes', '_gb')}" for name in missing)
        raise ValueError(f"{named}: not given. Give them, or --measured with a finished cohort's output")
    return Costs(**known)


def given_costs(
    seconds_per_mm2: float | None,
    mm2: float | None,
    slide_gb: float | None,
    output_gb: float | None,
    seconds_per_slide: float | None,
) -> dict[str, float]:
    """Return those costs that are given, by their names in :class:`Costs`; gigabytes become bytes."""
    given = {
        "seconds_per_mm2": seconds_per_mm2,
        "mm2": mm2,
        "slide_bytes": None if slide_gb is None else slide_gb * 1e9,
        "output_bytes": None if output_gb is None else output_gb * 1e9,
        "seconds_per_slide": seconds_per_slide,
    }
    return {name: value for name, value in given.items() if value is not None}


def shown_estimate(
    costs: Costs, slides: int, gbit: float, worker_gbit: float, dispatched: float, workers: Sequence[int]
) -> str:
    """Return an estimate as text: what a slide costs, hours by the number of workers, and how many are of use."""
    table = table_of(costs, slides, gbit, worker_gbit, dispatched, workers)
    return (
        f"a slide: {costs.mm2:.4g} mm² in {costs.seconds:.4g} s of one worker ({costs.seconds_per_mm2:.3g} s/mm²), "
        f"{costs.slide_bytes / 1e9:.3g} GB come, {costs.output_bytes / 1e9:.3g} GB go\n"
        f"{table.round(1).to_string(index=False)}\n"
        f"more than {costs.most_workers(gbit, dispatched)} workers make it no faster"
    )


def table_of(
    costs: Costs,
    slides: int,
    gbit: float = 10.0,
    worker_gbit: float = 10.0,
    dispatched: float = 50.0,
    workers: Sequence[int] = WORKERS,
) -> pd.DataFrame:
    """A row per number of workers; see :meth:`Costs.hours`."""
    rows = []
    for count in workers:
        hours, pace = costs.hours(slides, count, gbit, worker_gbit, dispatched)
        rows.append({"workers": count, "hours": hours, "slides_per_hour": slides / hours, "pace_set_by": pace})
    return pd.DataFrame(rows)
