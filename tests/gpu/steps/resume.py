"""Kill a segmentation on the GPU, resume it, and compare its outputs with those of an undisturbed one."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
from pathlib import Path
from unittest.mock import patch

import numpy as np
import tifffile

from common.bundle.parser import bundle_parser
from common.inference.progress_log import DONE, ProgressLog
from common.networks.checkpoints import load_weights
from tests.gpu.cases import CHECKPOINTS, DEVICE
from tests.gpu.kit import Kit

CONTEXTS = ("per_patch", "seamless")
# Finished blocks after which the process dies.
_KILLED_AFTER = 3


def run(kit: Kit) -> None:
    """Add a row per context.

    Raises:
        AssertionError: the outputs differ, or nothing was resumed.
    """
    slide = kit.work / "medium.tif"
    block = 1 if kit.miniature else 2
    before, wrong = {}, []
    for context in CONTEXTS:
        folder = kit.work / f"resume_{context}" / "killed"
        process = multiprocessing.get_context(kit.start_method).Process(
            target=_die, args=(slide, folder, context, block)
        )
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL, f"ended with {process.exitcode} instead of being killed"
        before[context] = sum(path.read_text().count("\n") for path in folder.rglob(DONE))
    for context in CONTEXTS:
        folder = kit.work / f"resume_{context}"
        whole, after = (_blocks_made(slide, folder / name, context, block) for name in ("whole", "killed"))
        maps = [tifffile.imread(folder / name / slide.stem / "prediction.tif") for name in ("whole", "killed")]
        share = float(np.mean(maps[0] == maps[1]))
        same = _digest(folder / "whole" / slide.stem) == _digest(folder / "killed" / slide.stem)
        figures = {"blocks": whole, "before_kill": before[context], "after_kill": after}
        kit.add(context, **figures, labels_equal=share, outputs_bit_identical=same)
        if not same or before[context] < _KILLED_AFTER or before[context] + after != whole:
            wrong.append(context)
    assert not wrong, f"not resumed as it should be: {', '.join(wrong)}"


def _segment(slide: Path, output: Path, context: str, block: int) -> None:
    """Segment a slide with the demonstration's network as its bundle does, in small blocks."""
    parser = bundle_parser("dmmn", ["inference.yaml", *CHECKPOINTS["demo"]])
    parser.update({"slides": str(slide), "output_dir": str(output), "context": context, "block": block})
    parser["reader_threads"] = 4
    parser["outputs"] = ["prediction.tif", "prediction.geojson"]
    network = parser.get_parsed_content("network_def")
    load_weights(network, parser.get_parsed_content("checkpoint"))
    parser.get_parsed_content("inferer").segment_slide({"image": str(slide)}, network.to(DEVICE))


def _die(slide: Path, output: Path, context: str, block: int) -> None:
    """Segment a slide in a process that kills itself after a few finished blocks."""
    with _counted(_KILLED_AFTER):
        _segment(slide, output, context, block)


def _blocks_made(slide: Path, output: Path, context: str, block: int) -> int:
    """Segment a slide, or what is left of it; return how many blocks that took."""
    with _counted() as count:
        _segment(slide, output, context, block)
    return count[0]


class _counted:
    """Count finished blocks; with ``last``, die at once when there are so many."""

    def __init__(self, last: int | None = None) -> None:
        self.count, self.last, mark_done = [0], last, ProgressLog.mark_done

        def counting(log: ProgressLog, *block: int) -> None:
            mark_done(log, *block)
            self.count[0] += 1
            if self.count[0] == self.last:
                os.kill(os.getpid(), signal.SIGKILL)

        self.patched = patch.object(ProgressLog, "mark_done", counting)

    def __enter__(self) -> list[int]:
        self.patched.start()
        return self.count

    def __exit__(self, *raised: object) -> None:
        self.patched.stop()


def _digest(folder: Path) -> str:
    """Return a hash of a slide's outputs, without what a clock says."""
    digest = hashlib.sha256()
    for name in ("prediction.tif", "prediction.geojson"):
        digest.update((folder / name).read_bytes())
    summary = json.loads((folder / "summary.json").read_text())
    del summary["seconds"]
    digest.update(json.dumps(summary, sort_keys=True).encode())
    return digest.hexdigest()
