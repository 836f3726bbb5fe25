"""Run the kit's steps one after the other, each in a process of its own that ends when its time is up.

    python -m tests.gpu.kit OUTPUT [--miniature] [--only STEP …] [--seconds 520]

Writes to OUTPUT: results.jsonl (every row as it comes), table.md (rewritten after every step), profile.txt.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.gpu.records import Records, as_markdown
from tests.gpu.sight import gpu_in_sight

# Of its limit, what a step is told that it has: it should end by itself, so that what it measured last is not lost.
_TOLD = 0.9


@dataclass(frozen=True)
class Step:
    """A step and the most seconds that it may take.

    Attributes:
        name: of its table.
        function: ``module:function``, called with a :class:`Kit`.
        seconds: its limit.
    """

    name: str
    function: str
    seconds: float


# The most valuable first. The limits add up to more than the kit's: a step seldom needs its own.
STEPS = (
    Step("inputs", "tests.gpu.steps.inputs:run", 60),
    Step("device", "tests.gpu.steps.device:run", 30),
    Step("labels", "tests.gpu.steps.labels:run", 120),
    Step("resume", "tests.gpu.steps.resume:run", 40),
    Step("streams", "tests.gpu.steps.streams:run", 40),
    Step("first steps of training", "tests.gpu.steps.first_steps:run", 60),
    Step("slide", "tests.gpu.steps.slide:run", 160),
    Step("methods", "tests.gpu.steps.methods:run", 60),
    Step("training", "tests.gpu.steps.training:run", 80),
    Step("MONAI PatchInferer", "tests.gpu.steps.patch_inferer:run", 40),
)
# Loaded once; every step's process is a copy of the one that has them.
_LOADED = [
    *("monai.bundle", "monai.engines", "monai.handlers", "monai.transforms", "ignite.handlers"),
    *("common.data", "common.handlers", "common.inference", "common.losses", "common.networks", "common.phantom"),
    *("common.restart", "common.training.checkpoint_metadata", "common.transforms", "torch.profiler"),
]


@dataclass(frozen=True)
class Kit:
    """What a step works with.

    Attributes:
        step: its name.
        out: where results go.
        work: where inputs lie and outputs may.
        miniature: small sizes and narrow networks: everything runs, nothing is measured.
        deadline: seconds of the monotonic clock until which it may go on.
        start_method: of processes that a step starts before it uses the GPU and that use it themselves.
        failed: rows that went wrong so far.
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
        """Within, what goes wrong is noted in the row, and the step fails at its end: further rows are still made."""
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
        """Return whether so many seconds are left; if not, say in the table that the row was left out."""
        if self.left() >= seconds:
            return True
        self.add(row, note=f"left out: {max(0.0, self.left()):.0f} s left")
        return False


def run_steps(steps: Sequence[Step], out: Path, miniature: bool, seconds: float) -> bool:
    """Run steps; return whether all of them ended well.

    Args:
        steps: which; one that fails does not stop the next.
        out: folder for the results; what an earlier run left there is replaced.
        miniature: see :class:`Kit`.
        seconds: for all together.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name in ("results.jsonl", "table.md", "profile.txt"):
        (out / name).unlink(missing_ok=True)
    end = time.monotonic() + seconds
    method = _start_method()
    context = multiprocessing.get_context(method)
    # A step's process has everything loaded already.
    within = "fork" if method == "forkserver" else method
    records, well = Records(out / "results.jsonl"), True
    work = Path(tempfile.mkdtemp(prefix="multimag-gpu-"))
    try:
        for step in steps:
            began, limit = time.monotonic(), min(step.seconds, end - time.monotonic())
            print(f"{step.name} (at most {max(0, limit):.0f} s)", flush=True)
            outcome = "left out: no time left"
            if limit > 1:
                kit = Kit(step.name, out, work, miniature, began + _TOLD * limit, within)
                process = context.Process(target=_run, args=(step.function, kit), name=step.name)
                outcome = _outcome(process, limit)
            well &= outcome == "done"
            records.add("steps", step.name, outcome=outcome, seconds=round(time.monotonic() - began, 1))
            _write_tables(out, records)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return well


def _start_method() -> str:
    """Return how steps' processes are started: as copies of one that has loaded everything.

    A library that touches the GPU when it is loaded would leave copies unable to use it. Then each is started from
    nothing, which takes seconds more.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LOADED)
    if not gpu_in_sight():
        return "forkserver"
    probe = context.Process(target=_use_gpu)
    try:
        probe.start()
        probe.join(60)
    except (EOFError, OSError) as error:
        print(f"what is loaded ahead cannot be: {error}", flush=True)
        return "spawn"
    if probe.is_alive():
        probe.kill()
    return "forkserver" if probe.exitcode == 0 else "spawn"


def _use_gpu() -> None:
    import torch

    torch.zeros(1, device="cuda")


def _outcome(process: BaseProcess, seconds: float) -> str:
    """Start a process and wait for its end, or end it."""
    process.start()
    process.join(seconds)
    if process.is_alive():
        assert process.pid is not None
        # Its group: a loader's workers would otherwise outlive it.
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        return f"stopped after {seconds:.0f} s"
    if process.exitcode == 0:
        return "done"
    assert process.exitcode is not None
    return "failed" if process.exitcode > 0 else f"failed: {signal.Signals(-process.exitcode).name}"


def _run(function: str, kit: Kit) -> None:
    os.setsid()
    module, name = function.split(":")
    try:
        getattr(importlib.import_module(module), name)(kit)
        if kit.failed:
            raise RuntimeError(f"went wrong: {', '.join(kit.failed)}")
    except BaseException as error:
        traceback.print_exc()
        kit.add("error", note=f"{type(error).__name__}: {str(error)[:300]}")
        sys.exit(1)


def _write_tables(out: Path, records: Records) -> None:
    partial = out / ".partial-table.md"
    partial.write_text(as_markdown(records.rows()), encoding="utf-8")
    partial.replace(out / "table.md")


def main() -> None:
    """Run the steps that are asked for and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--miniature", action="store_true", help="small sizes and narrow networks")
    parser.add_argument("--only", nargs="+", metavar="STEP", help=f"of {', '.join(step.name for step in STEPS)}")
    parser.add_argument("--seconds", type=float, default=520.0)
    arguments = parser.parse_args()
    unknown = set(arguments.only or ()) - {step.name for step in STEPS}
    if unknown:
        parser.error(f"no step {', '.join(sorted(unknown))}; there are {', '.join(step.name for step in STEPS)}")
    # Others work on what this one makes.
    chosen = [step for step in STEPS if not arguments.only or step.name in (*arguments.only, "inputs")]
    out = arguments.output.absolute()
    well = run_steps(chosen, out, arguments.miniature, arguments.seconds)
    print((out / "table.md").read_text(encoding="utf-8"))
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
