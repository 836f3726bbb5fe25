"""What became of each slide of a cohort: on the screen while it runs, and in files when it ends."""

from __future__ import annotations

import csv
import io
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tqdm import tqdm

from ..files import utf8
from ..reports.spreadsheets import inert_row
from .locations import redacted, shown
from .manifest import CohortSlide
from .store import OutputStore

TABLE, SUMS, SUMMARY = "cohort.csv", "manifest.sha256", "cohort.json"
SEGMENTED, BEFORE, FAILED, LEFT = "segmented", "segmented before", "failed", "not reached"
_SECONDS = ("staging", "segmenting", "handing over")


@dataclass
class Row:
    """A slide in the table: seconds of each stage, tries, and why it failed if it did."""

    name: str
    image: str
    status: str = LEFT
    reason: str = ""
    tries: int = 0
    bytes: int | None = None
    predicted_mm2: float | None = None
    output_bytes: int | None = None
    staging: float | None = None
    segmenting: float | None = None
    handing_over: float | None = None
    worker: str = ""
    finished: str = ""


class Account:
    """Keeps book of a cohort.

    Args:
        slides: all of them.
    """

    def __init__(self, slides: Iterable[CohortSlide]) -> None:
        self.rows = {slide.name: Row(slide.name, shown(slide.location)) for slide in slides}
        self._files: dict[str, Mapping[str, Any]] = {}
        self._started = time.monotonic()
        self._bytes_done = 0
        self._bar: tqdm | None = None

    def failed(self, name: str, reason: str, tries: int) -> None:
        """A slide is given up."""
        row = self.rows[name]
        row.status, row.reason, row.tries = FAILED, redacted(" ".join(reason.split())), tries
        self._step(row)

    def segmented(self, name: str, record: Mapping[str, Any], tries: int, before: bool = False) -> None:
        """A slide's outputs are there; its record says which."""
        row = self.rows[name]
        row.status, row.tries = (BEFORE, 0) if before else (SEGMENTED, tries)
        row.predicted_mm2, row.worker, row.finished = record["predicted_mm2"], record["worker"], record["finished"]
        row.staging, row.segmenting, row.handing_over = (record["seconds"].get(stage) for stage in _SECONDS)
        row.bytes = record["slide"]["bytes"]
        row.output_bytes = sum(file["bytes"] for file in record["files"].values())
        self._files[name] = record["files"]
        if not before:
            self._bytes_done += row.bytes or 0
            self._step(row)

    def begin(self, sizes: Mapping[str, int]) -> None:
        """From now on time counts; ``sizes`` are the bytes of what is to be done."""
        self._started = time.monotonic()
        self._bytes_to_do = sum(sizes.values())
        done = sum(row.status != LEFT for row in self.rows.values())
        form = "{desc}: {percentage:3.0f}%|{bar:30}| {n_fmt}/{total_fmt} slides, {elapsed}{postfix}"
        self._bar = tqdm(total=len(self.rows), initial=done, desc="cohort", bar_format=form, mininterval=1.0)

    def show(self, workers: int) -> None:
        """Slides per hour and time left, on the screen."""
        if self._bar is not None:
            counts = Counter(row.status for row in self.rows.values())
            rate = f"{self.slides_per_hour():,.1f} slides/h, {self._time_left()} left" if counts[SEGMENTED] else "…"
            self._bar.set_postfix_str(f"{rate}, {counts[FAILED]} failed, {workers} workers")

    def slides_per_hour(self) -> float:
        """Of those segmented since :meth:`begin`."""
        count = sum(row.status == SEGMENTED for row in self.rows.values())
        return count / max(1e-9, time.monotonic() - self._started) * 3600

    def end(self) -> None:
        """The bar stays as it is."""
        if self._bar is not None:
            self._bar.close()

    def counts(self) -> dict[str, int]:
        """How many slides of each status."""
        found = Counter(row.status for row in self.rows.values())
        return {status: found[status] for status in (SEGMENTED, BEFORE, FAILED, LEFT)}

    def publish(self, store: OutputStore, about: Mapping[str, Any]) -> None:
        """Write the table of slides, the SHA-256 of every output (as ``sha256sum --check`` reads them), and the
        cohort's own summary."""
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, list(asdict(Row("", ""))))
        writer.writeheader()
        # A slide's name or an error's text may begin as a formula does.
        writer.writerows(inert_row(asdict(row)) for row in self.rows.values())
        sums = (
            f"{file['sha256']}  {name}/{path}\n"
            for name in self.rows
            for path, file in sorted(self._files.get(name, {}).items())
        )
        summary = {
            **self.counts(),
            "seconds": round(time.monotonic() - self._started, 1),
            "slides_per_hour": round(self.slides_per_hour(), 2),
            **about,
        }
        store.write(TABLE, utf8(table.getvalue()))
        store.write(SUMS, utf8("".join(sums)))
        store.write(SUMMARY, utf8(json.dumps(summary, indent=2, ensure_ascii=False) + "\n"))

    def _step(self, row: Row) -> None:
        if self._bar is not None:
            if row.status == FAILED:
                self._bar.write(f"left out: {row.name}: {row.reason}")
            self._bar.update()

    def _time_left(self) -> str:
        """By bytes: the largest slides come first."""
        share = self._bytes_done / max(1, self._bytes_to_do)
        elapsed = time.monotonic() - self._started
        return tqdm.format_interval(elapsed * (1 - share) / share) if share else "?"


def shown_failures(account: Account, most: int = 20) -> str:
    """The slides that failed, each with its reason; of many, the first."""
    failed = [row for row in account.rows.values() if row.status == FAILED]
    listed = [f"  {row.name}: {row.reason}" for row in failed[:most]]
    more = [f"  and {len(failed) - most} more: see {TABLE}"] if len(failed) > most else []
    return "\n".join([f"{len(failed)} of {len(account.rows)} slides could not be segmented:", *listed, *more])
