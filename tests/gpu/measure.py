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
    """Measure the block; at its end the figures hold ``seconds`` and the peak memory of both sides.

    ``device_gib`` is the peak of all tensors, ``reserved_gib`` what PyTorch held on the GPU for them.
    """
    figures: Figures = {}
    cuda = DEVICE.type == "cuda"
    if cuda:
        torch.cuda.synchronize()
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


def free_memory() -> None:
    """Return memory that earlier rows have freed, so that it does not count in the next one's peak."""
    gc.collect()
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()


def segment_part(segmenter: Segmenter, path: Path, part: tuple[int, int] = (0, 1)) -> Figures:
    """Segment a part of a slide's blocks; return patches, seconds, rates and memory.

    The slide is opened for it, so that no tile is in its cache. The maps are written next to the slide.

    ``device_busy`` is the share of the time in which a forward pass was under way on the device, by events in its
    stream. Where those of several streams overlap they count once.
    """
    with (
        open_slide(path) as slide,
        tempfile.TemporaryDirectory(dir=path.parent) as folder,
        count_decoded() as decoded,
        forward_passes() as passes,
        measured() as figures,
    ):
        segmenter.segment(slide, Path(folder), {}, part=part)
        blocks = list(segmenter.grid(slide).blocks())
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


def warm_up(segmenter: Segmenter, path: Path) -> Figures:
    """Free memory, then segment a few blocks in the middle of a slide, enough for every worker.

    Each of them chooses, loads or compiles its kernels in its first block.
    """
    free_memory()
    with open_slide(path) as slide:
        blocks = sum(1 for _ in segmenter.grid(slide).blocks())
    wanted = 2 * segmenter.options.streams if DEVICE.type == "cuda" else 1
    parts = max(1, blocks // wanted)
    return segment_part(segmenter, path, (parts // 2, parts))


class ForwardPasses:
    """Collects when forward passes began and ended."""

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
    """Note the engine's forward passes in the block."""
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
    """Look at this process's memory every few milliseconds; the first entry is its peak."""
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
