"""Measure a piece of work: seconds, device time from its own events, decoded bytes, peak memory of both sides."""

from __future__ import annotations

import ctypes
import gc
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
import torch
from whole_slide import count_decoded

from common.inference import Segmenter
from common.inference.prediction import Predictor
from common.slides import open_slide
from tests.gpu.cases import DEVICE

Figures = dict[str, Any]


@contextmanager
def measured() -> Iterator[Figures]:
    """Within, measure; the figures are filled in at the end: ``seconds``, and the peak memory of both sides.

    ``device_gib`` is what tensors took, ``reserved_gib`` what PyTorch took from the GPU for them.
    """
    figures: Figures = {}
    # What earlier work has freed is not this one's peak.
    gc.collect()
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
    cuda = DEVICE.type == "cuda"
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with _peak_of_host() as peak:
        began = time.perf_counter()
        yield figures
        if cuda:
            torch.cuda.synchronize()
        figures["seconds"] = time.perf_counter() - began
    figures["host_gib"] = peak[0] / 2**30
    figures["device_gib"] = torch.cuda.max_memory_allocated() / 2**30 if cuda else 0.0
    figures["reserved_gib"] = torch.cuda.max_memory_reserved() / 2**30 if cuda else 0.0


def segment_part(segmenter: Segmenter, path: Path, part: tuple[int, int] = (0, 1)) -> Figures:
    """Segment a part of a slide's blocks; return patches, seconds, rates and memory.

    The slide is opened anew: nothing of it has been decoded before. Maps go next to it.

    ``device_busy`` is the share of the time in which a network's forward pass was under way on the device, by events
    of its own stream around each; those of several streams are counted once where they overlap.
    """
    with (
        open_slide(path) as slide,
        tempfile.TemporaryDirectory(dir=path.parent) as folder,
        count_decoded() as decoded,
        forward_passes() as passes,
        measured() as figures,
    ):
        segmenter.segment(slide, Path(folder), {}, part=part)
        blocks = list(segmenter.plan(slide).blocks())
    blocks = blocks[len(blocks) * part[0] // part[1] : len(blocks) * (part[0] + 1) // part[1]]
    patches = sum(block.rows * block.columns for block in blocks)
    busy = passes.seconds()
    return {
        "patches": patches,
        "patches_per_s": patches / figures["seconds"],
        **figures,
        "device_busy": busy / figures["seconds"],
        "forward_s": busy,
        "decoded_gb": sum(decoded) / 1e9,
    }


def segment_one_block(segmenter: Segmenter, path: Path) -> Figures:
    """Segment a block in the middle: what is loaded, chosen or compiled once is then done."""
    with open_slide(path) as slide:
        blocks = sum(1 for _ in segmenter.plan(slide).blocks())
    return segment_part(segmenter, path, (blocks // 2, blocks))


class ForwardPasses:
    """When forward passes began and ended."""

    def __init__(self) -> None:
        self._spans: list[tuple[Any, Any]] = []
        self._lock = threading.Lock()
        self._origin = _now()

    def add(self, began: Any, ended: Any) -> None:
        """Note one."""
        with self._lock:
            self._spans.append((began, ended))

    def seconds(self) -> float:
        """Return the seconds in which at least one was under way."""
        spans = sorted((_since(self._origin, began), _since(self._origin, ended)) for began, ended in self._spans)
        total, until = 0.0, float("-inf")
        for began, ended in spans:
            total += max(0.0, ended - max(began, until))
            until = max(until, ended)
        return total


@contextmanager
def forward_passes() -> Iterator[ForwardPasses]:
    """Within, the engine's forward passes are noted."""
    found = ForwardPasses()

    def noted(call: Any) -> Any:
        def calling(predictor: Predictor, *arguments: Any) -> Any:
            began = _now()
            result = call(predictor, *arguments)
            found.add(began, _now())
            return result

        return calling

    with (
        patch.object(Predictor, "_call", noted(Predictor._call)),
        patch.object(Predictor, "_call_context", noted(Predictor._call_context)),
    ):
        yield found


def _now() -> Any:
    """Return a mark in the device's time: on a GPU an event of the current stream."""
    if DEVICE.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _since(origin: Any, mark: Any) -> float:
    return mark - origin if DEVICE.type != "cuda" else origin.elapsed_time(mark) / 1000


@contextmanager
def _peak_of_host() -> Iterator[list[int]]:
    """Within, look at this process's memory every few milliseconds; its peak is the first entry."""
    process, peak, ended = psutil.Process(), [0], threading.Event()

    def look() -> None:
        while not ended.is_set():
            peak[0] = max(peak[0], process.memory_info().rss)
            ended.wait(0.02)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()
        peak[0] = max(peak[0], process.memory_info().rss)
