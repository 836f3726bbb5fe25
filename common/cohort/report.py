"""The status of each slide of a cohort: on the screen during the run, and in files at its end."""

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
from .locations import redact, redact_url
from .manifest import CohortSlide
from .store import OutputStore

TABLE, CHECKSUMS, SUMMARY = "cohort.csv", "manifest.sha256", "cohort.json"
SEGMENTED, SEGMENTED_BEFORE, FAILED, NOT_REACHED = "segmented", "segmented before", "failed", "not reached"


@dataclass
class ReportRow:
    """A slide's row of the table: status, reason if it failed, tries, bytes, and seconds of each stage."""

    name: str
    image: str
    status: str = NOT_REACHED
    reason: str = ""
    tries: int = 0
    bytes: int | None = None
    predicted_mm2: float | None = None
    output_bytes: int | None = None
    download: float | None = None
    segmenting: float | None = None
    upload: float | None = None
    worker: str = ""
    finished: str = ""


class CohortReport:
    """The status of every slide of a cohort.

    Args:
        slides: slides of the cohort.
    """

    def __init__(self, slides: Iterable[CohortSlide]) -> None:
        self.rows = {slide.name: ReportRow(slide.name, redact_url(slide.location)) for slide in slides}
        self._files: dict[str, Mapping[str, Any]] = {}
        self._started = time.monotonic()
        self._bytes_done = 0
        self._bar: tqdm | None = None

    def add_failed(self, name: str, reason: str, tries: int) -> None:
        """Enter a slide that was given up."""
        row = self.rows[name]
        row.status, row.reason, row.tries = FAILED, redact(" ".join(reason.split())), tries
        self._advance(row)

    def add_segmented(self, name: str, record: Mapping[str, Any], tries: int) -> None:
        """Enter a slide that was segmented, with the record of its outputs."""
        row = self._add_record(name, record)
        row.status, row.tries = SEGMENTED, tries
        self._bytes_done += row.bytes or 0
        self._advance(row)

    def add_segmented_before(self, name: str, record: Mapping[str, Any]) -> None:
        """Enter a slide that an earlier run segmented, with the record of its outputs."""
        self._add_record(name, record).status = SEGMENTED_BEFORE

    def _add_record(self, name: str, record: Mapping[str, Any]) -> ReportRow:
        row, seconds = self.rows[name], record["seconds"]
        row.predicted_mm2, row.worker, row.finished = record["predicted_mm2"], record["worker"], record["finished"]
        # "staging" in records of the previous version.
        row.download = seconds.get("download", seconds.get("staging"))
        row.segmenting, row.upload = seconds.get("segmenting"), seconds.get("upload")
        row.bytes = record["slide"]["bytes"]
        row.output_bytes = sum(file["bytes"] for file in record["files"].values())
        self._files[name] = record["files"]
        return row

    def start_progress(self, sizes: Mapping[str, int]) -> None:
        """Start the clock and show the progress bar.

        Args:
            sizes: bytes of each slide that is still to be segmented.
        """
        self._started = time.monotonic()
        self._bytes_to_do = sum(sizes.values())
        done = sum(row.status != NOT_REACHED for row in self.rows.values())
        form = "{desc}: {percentage:3.0f}%|{bar:30}| {n_fmt}/{total_fmt} slides, {elapsed}{postfix}"
        self._bar = tqdm(total=len(self.rows), initial=done, desc="cohort", bar_format=form, mininterval=1.0)

    def show_progress(self, workers: int) -> None:
        """Show slides per hour, the time left and the number of workers in the progress bar."""
        if self._bar is not None:
            counts = Counter(row.status for row in self.rows.values())
            rate = f"{self.slides_per_hour():,.1f} slides/h, {self._time_left()} left" if counts[SEGMENTED] else "…"
            self._bar.set_postfix_str(f"{rate}, {counts[FAILED]} failed, {workers} workers")

    def close_progress(self) -> None:
        """Leave the progress bar on the screen as it stands."""
        if self._bar is not None:
            self._bar.close()

    def slides_per_hour(self) -> float:
        """Return the rate of slides segmented since :meth:`start_progress`."""
        count = sum(row.status == SEGMENTED for row in self.rows.values())
        return count / max(1e-9, time.monotonic() - self._started) * 3600

    def counts(self) -> dict[str, int]:
        """Return the number of slides of each status."""
        found = Counter(row.status for row in self.rows.values())
        return {status: found[status] for status in (SEGMENTED, SEGMENTED_BEFORE, FAILED, NOT_REACHED)}

    def write(self, store: OutputStore, about: Mapping[str, Any]) -> None:
        """Write the table of slides, the SHA-256 of every output (in the format of ``sha256sum --check``) and the
        summary.

        Args:
            store: place of the outputs.
            about: further entries of the summary.
        """
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, list(asdict(ReportRow("", ""))))
        writer.writeheader()
        # A spreadsheet could take a slide's name or an error's text for a formula.
        writer.writerows(inert_row(asdict(row)) for row in self.rows.values())
        checksums = (
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
        store.write(CHECKSUMS, utf8("".join(checksums)))
        store.write(SUMMARY, utf8(json.dumps(summary, indent=2, ensure_ascii=False) + "\n"))

    def _advance(self, row: ReportRow) -> None:
        if self._bar is not None:
            if row.status == FAILED:
                self._bar.write(f"left out: {row.name}: {row.reason}")
            self._bar.update()

    def _time_left(self) -> str:
        # By bytes, as the largest slides come first.
        share = self._bytes_done / max(1, self._bytes_to_do)
        elapsed = time.monotonic() - self._started
        return tqdm.format_interval(elapsed * (1 - share) / share) if share else "?"


def format_failures(report: CohortReport, most: int = 20) -> str:
    """Return the failed slides with their reasons as text; of many, the first ``most``."""
    failed = [row for row in report.rows.values() if row.status == FAILED]
    listed = [f"  {row.name}: {row.reason}" for row in failed[:most]]
    more = [f"  and {len(failed) - most} more: see {TABLE}"] if len(failed) > most else []
    return "\n".join([f"{len(failed)} of {len(report.rows)} slides could not be segmented:", *listed, *more])
