"""Run the kit's steps one after the other and write what they measure.

    python -m tests.gpu.run OUTPUT [--miniature] [--only STEP …] [--seconds 520]

Writes to OUTPUT: results.jsonl (every row as it comes), table.md (rewritten after every step), profile.txt.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.gpu.kit import Kit
from tests.gpu.output import prepare_output
from tests.gpu.processes import load_ahead, method_within, run_in_process
from tests.gpu.records import Records, as_markdown
from tests.gpu.sight import gpu_in_sight

# Of its limit, the share that a step is told it has: it should end by itself.
_TOLD = 0.9


@dataclass(frozen=True)
class Step:
    """A step and its time.

    Attributes:
        name: name of its table.
        function: ``module:function``, called with a :class:`Kit`.
        seconds: what is reserved for it. It may use what steps before it have left, too.
    """

    name: str
    function: str
    seconds: float


# The most valuable first. Together: the kit's own limit.
STEPS = (
    Step("inputs", "tests.gpu.steps.inputs:run", 45),
    Step("device", "tests.gpu.steps.device:run", 15),
    Step("labels", "tests.gpu.steps.labels:run", 90),
    Step("resume", "tests.gpu.steps.resume:run", 30),
    Step("streams", "tests.gpu.steps.streams:run", 30),
    Step("first_steps", "tests.gpu.steps.first_steps:run", 45),
    Step("slide", "tests.gpu.steps.slide:run", 135),
    Step("methods", "tests.gpu.steps.methods:run", 40),
    Step("training", "tests.gpu.steps.training:run", 60),
    Step("patch_inferer", "tests.gpu.steps.patch_inferer:run", 25),
)


def run_steps(steps: Sequence[Step], out: Path, miniature: bool, seconds: float, command: str = "") -> bool:
    """Run steps; return whether all of them succeeded.

    Args:
        steps: which; one that fails does not stop the next.
        out: empty folder for the results.
        miniature: see :class:`Kit`.
        seconds: the limit for all together.
        command: how it was called.

    Raises:
        KeyboardInterrupt: interrupted. The running step is killed, and the tables hold what was measured.
    """
    end = time.monotonic() + seconds
    records, succeeded = Records(out / "results.jsonl"), True
    records.add("run", "this run", **_description(miniature, command))
    print("loading", flush=True)
    context = load_ahead()
    records.add("steps", "loading", outcome="done", seconds=seconds - (end - time.monotonic()))
    work = Path(tempfile.mkdtemp(prefix="multimag-gpu-"))
    step, began = steps[0], time.monotonic()
    try:
        for number, step in enumerate(steps):
            began = time.monotonic()
            reserved = sum(later.seconds for later in steps[number + 1 :])
            limit = min(end - began, max(step.seconds, end - began - reserved))
            outcome = "skipped: no time left"
            if limit > 1:
                print(f"{step.name} (at most {limit:.0f} s)", flush=True)
                kit = Kit(step.name, out, work, miniature, began + _TOLD * limit, method_within(context))
                outcome = run_in_process(context, step.function, kit, limit)
            succeeded &= outcome == "done"
            records.add("steps", step.name, outcome=outcome, seconds=round(time.monotonic() - began, 1))
            _write_tables(out, records)
    except KeyboardInterrupt:
        records.add("steps", step.name, outcome="interrupted", seconds=round(time.monotonic() - began, 1))
        _write_tables(out, records)
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return succeeded


def _description(miniature: bool, command: str) -> dict[str, Any]:
    repository = Path(__file__).resolve().parents[2]
    git = ["git", "-C", str(repository), "rev-parse", "--short", "HEAD"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "size": "miniature: nothing is measured" if miniature else "full",
        "machine": f"{os.cpu_count()} CPU cores, Python {platform.python_version()}",
        "command": command,
    }


def _write_tables(out: Path, records: Records) -> None:
    partial = out / ".partial-table.md"
    partial.write_text(as_markdown(records.rows()), encoding="utf-8")
    partial.replace(out / "table.md")


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Run the steps that are asked for and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], prog="run.sh")
    parser.add_argument("output", type=Path)
    parser.add_argument("--miniature", action="store_true", help="small sizes and narrow networks")
    parser.add_argument("--only", nargs="+", metavar="STEP", help=f"of {', '.join(step.name for step in STEPS)}")
    parser.add_argument("--seconds", type=float, default=520.0)
    parser.add_argument("--prepare", action="store_true", help="check the arguments and prepare the output folder only")
    arguments = parser.parse_args()
    unknown = set(arguments.only or ()) - {step.name for step in STEPS}
    if unknown:
        parser.error(f"no step {', '.join(sorted(unknown))}; there are {', '.join(step.name for step in STEPS)}")
    if not gpu_in_sight() and not arguments.miniature:
        parser.error("no GPU in sight. --miniature rehearses everything on the CPU")
    out = arguments.output.absolute()
    if arguments.prepare:
        try:
            prepare_output(out)
        except OSError as error:
            parser.error(f"cannot write the results: {error}. Set OUT to a folder that can be written to")
        return
    # Others work on what the inputs step writes.
    chosen = [step for step in STEPS if not arguments.only or step.name in (*arguments.only, "inputs")]
    signal.signal(signal.SIGTERM, _interrupt)
    # Whatever waits for a GPU that hangs: the tables are written.
    signal.signal(signal.SIGALRM, _interrupt)
    signal.alarm(math.ceil(arguments.seconds) + 15)
    try:
        command = shlex.join(["run.sh", *sys.argv[2:]])
        succeeded = run_steps(chosen, out, arguments.miniature, arguments.seconds, command)
    except KeyboardInterrupt:
        print(f"interrupted; what was measured is in {out}", flush=True)
        sys.exit(130)
    print((out / "table.md").read_text(encoding="utf-8"))
    sys.exit(0 if succeeded else 1)


if __name__ == "__main__":
    main()
