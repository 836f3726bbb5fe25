"""The interface between the kit and a step."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.gpu.records import Records


@dataclass(frozen=True)
class Kit:
    """Gives a step its folders, its time and its table.

    Attributes:
        step: its name.
        out: folder for results.
        work: folder for inputs and temporary outputs.
        miniature: small sizes and narrow networks: everything runs, nothing is measured.
        deadline: monotonic time until which the step may run.
        start_method: how a step starts processes that use the GPU, before it uses the GPU itself.
        failed: rows that have failed so far.
    """

    step: str
    out: Path
    work: Path
    miniature: bool
    deadline: float
    start_method: str
    failed: list[str] = field(default_factory=list)

    def add(self, row: str, **figures: object) -> None:
        """Add a row to this step's table."""
        Records(self.out / "results.jsonl").add(self.step, row, **figures)

    @contextmanager
    def attempt(self, row: str) -> Iterator[None]:
        """Note an error in the row and swallow it; the step fails at its end."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.add(row, note=f"{type(error).__name__}: {str(error)[:300]}")
            self.failed.append(row)

    def left(self) -> float:
        """Return the seconds that are left."""
        return self.deadline - time.monotonic()

    def has_time_for(self, row: str, seconds: float) -> bool:
        """Return whether so many seconds are left; if not, add a row that says so."""
        if self.left() >= seconds:
            return True
        self.add(row, note=f"skipped: {max(0.0, self.left()):.0f} s left")
        return False
