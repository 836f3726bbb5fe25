"""DMMN-M3 at the paper's width over the slide that took Ho et al. 2021 14 min 52 s: 53,711 x 38,380 pixels."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from whole_slide import count_decoded, decode_all

from common.inference import InferenceOptions
from common.inference.autocast import AutocastInferer
from common.inference.memory import retain_freed_memory
from common.inference.options import CONTEXTS
from common.slides import open_slide
from tests.gpu.cases import DEVICE, Case, bundle_case
from tests.gpu.floor import floor_seconds
from tests.gpu.kit import Kit
from tests.gpu.measure import Figures, free_memory, measured, segment_part, warm_up

# One of so many parts of the slide for variants whose rate is enough.
PART = 8


def run(kit: Kit) -> None:
    """Add the rows, the most valuable first; what there is no time for is named."""
    case = bundle_case("dmmn", kit.miniature)
    flops = case.flops()
    path = kit.work / "large.tif"
    options = replace(case.options, batch_size=64, reader_threads=16)
    if kit.miniature:
        options = replace(options, batch_size=4, block=4, reader_threads=2)
    with open_slide(path) as slide:
        grid = case.segmenter(options).grid(slide)
    patches = grid.grid[0] * grid.grid[1]
    kit.add("floor", patches=patches, slide_s=floor_seconds(patches, flops), note=f"{flops / 1e9:.1f} GFLOP a patch")
    rows = _Rows(kit, case, path, flops, patches)
    for batch_size in (2, 4) if kit.miniature else (8, 16, 32, 64, 128):
        with kit.attempt(f"plain forward, batch {batch_size}"):
            rows.plain(batch_size)
    for context in CONTEXTS:
        rows.whole(context, options)
    for context in ("per_patch", "seamless"):
        with kit.attempt(f"profile: {context}"):
            rows.profiled(context, options)
    with kit.attempt("decoding alone"):
        rows.decoding(options)
    for label, changed in _variants(kit.miniature):
        rows.part(label, replace(options, **changed))


def _variants(miniature: bool) -> list[tuple[str, dict[str, Any]]]:
    """Return options to try, those that promise most first; each is run over a part of the slide."""
    if miniature:
        return [("per_patch, batch 2", {"batch_size": 2}), ("per_patch, streams 1", {"streams": 1})]
    per_patch: list[tuple[str, dict[str, Any]]] = [
        ("compiled", {"compile": True}),
        *((f"streams {count}", {"streams": count}) for count in (1, 3)),
        # A batch is at most a block.
        *((f"batch {size}", {"batch_size": size, "block": 16}) for size in (128, 256)),
        *((f"batch {size}", {"batch_size": size}) for size in (16, 32)),
        ("block 4", {"block": 4, "batch_size": 16}),
        *((f"readers {count}", {"reader_threads": count}) for count in (4, 8, 24)),
        ("float32", {"dtype": "float32"}),
    ]
    seamless: list[tuple[str, dict[str, Any]]] = [
        ("compiled", {"compile": True}),
        *((f"block {side}", {"block": side}) for side in (4, 16)),
        *((f"streams {count}", {"streams": count}) for count in (1, 3)),
    ]
    return [
        ("per_patch", {}),
        ("seamless", {"context": "seamless"}),
        *((f"per_patch, {label}", changed) for label, changed in per_patch[:5]),
        *((f"seamless, {label}", {"context": "seamless", **changed}) for label, changed in seamless),
        *((f"per_patch, {label}", changed) for label, changed in per_patch[5:]),
    ]


class _Rows:
    """Measures rows over one slide with one network."""

    def __init__(self, kit: Kit, case: Case, path: Path, flops: float, patches: int) -> None:
        self.kit, self.case, self.path, self.flops, self.patches = kit, case, path, flops, patches
        self.plain_rate = 0.0
        self.seconds: list[float] = []

    def plain(self, batch_size: int) -> None:
        """Add the forward pass of as many patches as are needed to know its rate."""
        free_memory()
        count = 2 * batch_size if self.kit.miniature else max(1024, 8 * batch_size)
        network = self.case.segmenter(replace(self.case.options, dtype="auto")).networks[0]
        size = self.case.views[0].size
        forward = AutocastInferer("auto")
        # As the engine gives it: nothing has to be converted.
        batch = torch.rand(batch_size, 3 * len(self.case.views), size, size, device=DEVICE)
        batch = batch.to(getattr(torch, forward.dtype_on(DEVICE)), memory_format=torch.channels_last)
        # As the engine does, which keeps freed memory on a CPU only.
        with torch.inference_mode(), retain_freed_memory() if DEVICE.type == "cpu" else nullcontext():
            forward(batch, network)
            with measured() as figures:
                for _ in range(count // batch_size):
                    forward(batch, network)
        rate = count / figures["seconds"]
        self.plain_rate = max(self.plain_rate, rate)
        self._add(f"plain forward, batch {batch_size}", {"patches": count, "patches_per_s": rate, **figures})

    def whole(self, context: str, options: InferenceOptions) -> None:
        """Add the engine over the whole slide, or over a part of it where there is no time for that."""
        # One context takes about as long as another.
        if self.kit.left() < max(25, 1.5 * max(self.seconds, default=0)):
            self.part(context, replace(options, context=context))
            return
        self._segment(context, replace(options, context=context), (0, 1))

    def part(self, label: str, options: InferenceOptions) -> None:
        """Add the engine over a part of the slide."""
        part = (0, 1) if self.kit.miniature else (3, PART)
        if self.kit.has_time_for(f"a part: {label}", 60 if options.compile else 8):
            self._segment(f"a part: {label}", options, part)

    def decoding(self, options: InferenceOptions) -> None:
        """Add reading and decoding of the whole slide, without a network."""
        if self.kit.has_time_for("decoding alone", 10):
            with open_slide(self.path) as slide, count_decoded() as decoded, measured() as figures:
                decode_all(self.case.segmenter(options), slide)
            rate = self.patches / figures["seconds"]
            row = {"patches": self.patches, "patches_per_s": rate, **figures, "decoded_gb": sum(decoded) / 1e9}
            self._add("decoding alone", row, dtype=None)

    def profiled(self, context: str, options: InferenceOptions) -> None:
        """Add a small part under PyTorch's profiler: the device time of its kernels, and its ten longest operations."""
        if not self.kit.has_time_for(f"profile: {context}", 15):
            return
        segmenter = self.case.segmenter(replace(options, context=context))
        part = (1, 2) if self.kit.miniature else (30, 100)
        cuda = DEVICE.type == "cuda"
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
        warm_up(segmenter, self.path)
        with profile(activities=activities) as profiler:
            figures = segment_part(segmenter, self.path, part)
        averages = profiler.key_averages()
        kernels = [each for each in averages if each.device_type == DeviceType.CUDA] if cuda else list(averages)
        kernels = [each for each in kernels if not each.key.startswith(("Memcpy", "Memset"))]
        kind = "device" if cuda else "cpu"
        total = sum(getattr(each, f"self_{kind}_time_total") for each in kernels) / 1e6
        # Neither a slide's time nor a share of the floor: the profiler costs time itself.
        self.kit.add(f"profile: {context}", **figures, kernels_s=total)
        with (self.kit.out / "profile.txt").open("a", encoding="utf-8") as file:
            table = averages.table(sort_by=f"self_{kind}_time_total", row_limit=10, max_name_column_width=80)
            file.write(f"{context}\n{table}\n")

    def _segment(self, row: str, options: InferenceOptions, part: tuple[int, int]) -> None:
        with self.kit.attempt(row):
            segmenter = self.case.segmenter(options)
            began = time.perf_counter()
            warm_up(segmenter, self.path)
            if options.compile:
                # Blocks at the slide's edges have shapes of their own, which are compiled too.
                segment_part(segmenter, self.path, part)
            warm = time.perf_counter() - began
            figures = segment_part(segmenter, self.path, part)
            if part == (0, 1):
                self.seconds.append(figures["seconds"])
            of_plain = figures["patches_per_s"] / self.plain_rate
            self._add(row, {**figures, "of_plain": of_plain, "warm_up_s": warm}, segmenter.options.dtype)

    def _add(self, row: str, figures: Figures, dtype: str | None = "bfloat16") -> None:
        rate = figures["patches_per_s"]
        # The floor is that of a GPU in bfloat16.
        of_floor = floor_seconds(1, self.flops) * rate if dtype == "bfloat16" and DEVICE.type == "cuda" else ""
        self.kit.add(row, **figures, slide_s=self.patches / rate, of_floor=of_floor)
