"""Segmentations in processes of their own that are stopped, or lack something, at a chosen moment.

The processes are forked from one that has imported everything, and end as the command does.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common import files
from common.cli.errors import report_errors
from common.cli.output import safe_output
from common.inference import inferer, slide_run
from common.inference.pipeline import DevicePipeline
from common.inference.progress_log import ProgressLog
from common.maps.store import MapStore
from common.outputs import writer
from common.phantom import BREAST
from tests.conftest import ramp, write_pyramid
from tests.inference.test_resume import Stepwise, run

BLOCKS = 9
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])
# Where a run may be stopped, just before and just after: one or more of each step, from opening the slide to removing
# what is no longer needed.
_MOMENTS: tuple[tuple[Any, str], ...] = (
    *((slide_run, name) for name in ("open_entry", "write_outputs")),
    (inferer, "tissue_mask"),
    *((DevicePipeline, "predict"), (MapStore, "write"), (ProgressLog, "begin"), (ProgressLog, "mark_done")),
    *((writer, name) for name in ("write_label_pyramid", "write_polygons", "write_overlay", "write_probabilities")),
    *((writer, "write_json"), (files.os, "replace"), (files.shutil, "rmtree")),
)


@dataclass(frozen=True)
class Ended:
    """The end of a process: its exit code (negative for a signal), and its output."""

    code: int
    said: str


def small_slide(path: Path) -> Path:
    """A slide of 6 x 6 targets: nine blocks of 2 x 2."""
    return write_pyramid(path, [ramp(48, 48).repeat(8, 0).repeat(8, 1)], (0.5, 0.5))


def segment(slide: Path, out: Path, **given: Any) -> None:
    """Segment a slide and leave as the command does."""
    made, _ = run(str(slide), out, BREAST.scheme, Stepwise(), **given)
    made.finish()


def ended(log: Path, call: Callable[..., Any], *arguments: Any, before: Callable[[], Any] | None = None) -> Ended:
    """Run a function in a process of its own, in which ``before`` is called first."""
    return end_of(started(log, call, *arguments, before=before), log)


def started(log: Path, call: Callable[..., Any], *arguments: Any, before: Callable[[], Any] | None = None) -> Any:
    """Start a function in a process of its own; :func:`end_of` waits for it."""
    process = _CONTEXT.Process(target=_child, args=(log, before, call, arguments))
    process.start()
    return process


def end_of(process: Any, log: Path) -> Ended:
    """Wait for a process."""
    process.join(120)
    if process.is_alive():
        process.kill()
        raise AssertionError(f"a process did not end: {log.read_text()[-2000:]}")
    return Ended(process.exitcode, log.read_text(encoding="utf-8", errors="replace"))


def stopped(log: Path, slide: Path, out: Path, number: int, moment: int) -> Ended:
    """Segment a slide in a process that gets a signal at a moment, counted from 0."""
    return ended(log, segment, slide, out, before=functools.partial(_signal_at, number, moment))


def moments(log: Path, slide: Path, out: Path) -> tuple[int, list[int]]:
    """Return how many moments a whole run has, and the bytes of each file that it keeps to resume from."""
    count, sizes = log.with_suffix(".count"), log.with_suffix(".sizes")
    result = ended(log, segment, slide, out, before=functools.partial(_measure, count, sizes))
    assert result.code == 0, result.said
    return len(count.read_bytes()), [int(size) for size in sizes.read_text().split()]


def _child(log: Path, before: Callable[[], Any] | None, call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    with log.open("wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    # As in a terminal: what runs in the background of a script is started with these ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    torch.set_num_threads(1)
    if before is not None:
        before()
    with safe_output(), report_errors():
        call(*arguments)


def predict_slowly() -> None:
    """Let every block take a fifth of a second more."""
    predict = DevicePipeline.predict

    def slowly(*arguments: Any) -> Any:
        time.sleep(0.2)
        return predict(*arguments)

    DevicePipeline.predict = slowly


def _signal_at(number: int, moment: int) -> None:
    counted = iter(range(moment + 1))

    def happened() -> None:
        if next(counted, None) == moment:
            os.kill(os.getpid(), number)

    _watch(happened)


def _measure(count: Path, sizes: Path) -> None:
    def happened() -> None:
        with count.open("ab") as file:
            file.write(b".")

    write_outputs = slide_run.write_outputs

    def measured(folder: Path, *arguments: Any) -> Any:
        kept = [path for path in folder.parent.rglob(".unfinished/**/*") if path.is_file()]
        sizes.write_text(" ".join(str(path.stat().st_size) for path in kept))
        return write_outputs(folder, *arguments)

    slide_run.write_outputs = measured
    _watch(happened)


def _watch(happened: Callable[[], None]) -> None:
    program = os.getpid()

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            if os.getpid() == program:
                happened()
            result = function(*arguments, **options)
            if os.getpid() == program:
                happened()
            return result

        return call

    for owner, name in _MOMENTS:
        setattr(owner, name, watched(getattr(owner, name)))


def last_line(said: str) -> str:
    """Return the last line that is no progress bar."""
    lines = [line for part in said.splitlines() for line in part.split("\r") if "patch/s" not in line]
    return next(line for line in reversed(lines) if line.strip())


def exit_code(number: int) -> int:
    """Return the code that a command leaves with when it gets a signal."""
    return -number if number == signal.SIGKILL else 128 + number


if __name__ == "__main__":
    sys.exit("run by tests")
