"""Blocks on their way from the slide to finished maps: read ahead, then predicted and stitched on every device."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from tqdm import tqdm

from ..classes import ClassScheme
from ..files import printable_line
from ..maps.grid import Block
from .prediction import BlockTensors, Predictor
from .reading import BlockInput, BlockReader
from .stitching import Stitcher

Maps = dict[str, torch.Tensor]
# A block, and which of its targets to predict: ``(rows, columns)`` bool.
BlockJob = tuple[Block, np.ndarray]
# Blocks read ahead of each pipeline, at least.
_AHEAD = 2
# Pixels that are preprocessed at once on a CPU.
_STRIP = 2**15


class ProgressBar:
    """The bar of a slide. It moves with every batch, whichever thread predicted it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bar = tqdm(disable=True)
        self._done = 0.0

    @contextmanager
    def shown(self, name: str, total: int, before: int) -> Iterator[None]:
        """Show the bar of ``total`` targets within the context, ``before`` of which an earlier run predicted."""
        self._done = float(before)
        with tqdm(total=total, initial=before, desc=printable_line(name), unit="patch", mininterval=0.5) as self._bar:
            yield

    def add(self, targets: float) -> None:
        """Count further targets. One that is predicted several times counts in equal parts."""
        with self._lock:
            self._done += targets
            self._bar.update(int(self._done + 1e-6) - self._bar.n)


class DevicePipeline:
    """The steps from the views of blocks to their maps on one device; on a GPU, in a stream of its own.

    Args:
        predictor: runs the network.
        preprocess_view: preprocesses the view ``(3, h, w)`` of an index.
        scheme: the classes.
        maps: names of the maps; see :class:`Stitcher`.
        device, stream: the network's device, and its stream on a GPU.
        progress: the slide's bar.

    Attributes:
        seconds: time spent predicting so far.
    """

    def __init__(
        self,
        predictor: Predictor,
        preprocess_view: Callable[[torch.Tensor, int], torch.Tensor],
        scheme: ClassScheme,
        maps: tuple[str, ...],
        device: torch.device,
        stream: torch.cuda.Stream | None,
        progress: ProgressBar,
    ) -> None:
        self.predictor, self.preprocess_view, self.progress = predictor, preprocess_view, progress
        self.scheme, self.maps, self.device, self.stream = scheme, maps, device, stream
        self.seconds = 0.0
        if stream is not None:
            # The weights were copied in another stream.
            torch.cuda.synchronize(device)

    def predict(self, block: Block, mask: np.ndarray, inputs: Sequence[BlockInput]) -> Maps:
        """Return the maps of a block, on the CPU; see :meth:`Stitcher.finish`."""
        started = time.monotonic()
        # Both contexts hold for one thread only. Without a stream, CUDA must not be initialised.
        in_stream = nullcontext() if self.stream is None else torch.cuda.stream(self.stream)
        with torch.inference_mode(), in_stream:
            on_device = [self._prepared(views) for views in inputs]
            predictor = self.predictor
            options = predictor.options
            stitcher = Stitcher(predictor.grid, block, mask, self.scheme, options, self.maps, self.device)
            for predicted in predictor(on_device):
                stitcher.add(predicted)
                self.progress.add(predicted.targets / predictor.passes)
            maps = {name: found.cpu() for name, found in stitcher.finish().items()}
        self.seconds += time.monotonic() - started
        return maps

    def _prepared(self, read: BlockInput) -> BlockTensors:
        views = [self._prepared_view(view, index) for index, view in enumerate(read.views)]
        return BlockTensors(read.row, read.column, read.mask, views, read.tiles, read.at_grid_edge)

    def _prepared_view(self, view: np.ndarray, index: int) -> torch.Tensor:
        if view.ndim == 4:
            return torch.stack([self._prepared_view(tile, index) for tile in view])
        # A pixel's channels stay next to each other from the decoder to the network.
        pixels = torch.from_numpy(np.ascontiguousarray(view.transpose(1, 2, 0)))
        if self.stream is not None:
            # Only a copy from pinned memory leaves the processor free.
            pixels = pixels.pin_memory().to(self.device, non_blocking=True)
        dtype = getattr(torch, self.predictor.options.dtype)
        prepared = torch.empty(pixels.shape, dtype=dtype, device=self.device)
        height, width = pixels.shape[:2]
        # A CPU is several times as fast on a strip that fits its cache as on a whole view.
        rows = max(1, _STRIP // width) if self.device.type == "cpu" else height
        for top in range(0, height, rows):
            strip = pixels[top : top + rows].permute(2, 0, 1).float()
            prepared[top : top + rows] = self.preprocess_view(strip, index).permute(1, 2, 0)
        return prepared.permute(2, 0, 1)


def run_in_turn(
    jobs: Sequence[BlockJob], reader: BlockReader, pipeline: DevicePipeline, readers: int
) -> Generator[tuple[Block, Maps]]:
    """Yield each block with its maps, predicted in the caller's thread while ``readers`` threads read a few ahead."""
    waiting = iter(jobs)
    ahead: deque[tuple[BlockJob, Future[list[BlockInput]]]] = deque()
    with ThreadPoolExecutor(readers) as reading:
        try:
            while True:
                while len(ahead) < max(readers, _AHEAD) and (job := next(waiting, None)) is not None:
                    ahead.append((job, reading.submit(reader.read, *job)))
                if not ahead:
                    return
                (block, mask), read = ahead.popleft()
                yield block, pipeline.predict(block, mask, read.result())
        finally:
            # When a block fails or the caller is interrupted, queued reads are not started.
            reading.shutdown(wait=False, cancel_futures=True)


def run_at_once(
    jobs: Sequence[BlockJob],
    reader: BlockReader,
    pipelines: Sequence[DevicePipeline],
    readers: int,
    predicting: ThreadPoolExecutor,
) -> Generator[tuple[Block, Maps]]:
    """Yield each block with its maps in the order in which they finish, predicted by whichever pipeline is free.

    ``predicting`` has one thread per pipeline. Only a few blocks are in memory at any time.
    """
    waiting = iter(jobs)
    with ThreadPoolExecutor(readers) as reading:
        free: queue.SimpleQueue[DevicePipeline] = queue.SimpleQueue()
        for pipeline in pipelines:
            free.put(pipeline)

        def predict(block: Block, mask: np.ndarray, read: Future[list[BlockInput]]) -> Maps:
            pipeline = free.get()
            try:
                return pipeline.predict(block, mask, read.result())
            finally:
                free.put(pipeline)

        # Enough that every reader has a block to read while every pipeline has one to predict.
        most = len(pipelines) + max(readers, _AHEAD * len(pipelines))
        running: dict[Future[Maps], Block] = {}
        try:
            while True:
                while len(running) < most and (job := next(waiting, None)) is not None:
                    running[predicting.submit(predict, *job, reading.submit(reader.read, *job))] = job[0]
                if not running:
                    return
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield running.pop(future), future.result()
        finally:
            reading.shutdown(wait=False, cancel_futures=True)
            for future in running:
                future.cancel()
            wait(running)
