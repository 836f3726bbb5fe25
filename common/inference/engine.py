"""Slide in, maps out: read ahead, predict, stitch, write, in bounded memory.

Three stages run at the same time: threads read the next blocks, further threads predict and stitch, and the caller's
thread writes what is finished and ticks it off. On one CPU, where writing would only take rotations with
predicting, the caller's thread does both.
"""

from __future__ import annotations

import copy
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from .. import __version__
from ..classes import ClassScheme
from ..files import printable_line
from ..maps.grid import Block, TileGrid
from ..maps.store import MapStore, checksum
from ..slides import FieldOfView, PatchReader, RegionMask, Slide, SlideError, TissueMask
from .memory import retain_freed_memory
from .options import InferenceOptions
from .prediction import BlockTensors, Predictor
from .progress_log import ProgressLog
from .reading import BlockInput, BlockReader
from .stitching import Stitcher

logger = logging.getLogger(__name__)

Preprocess = Callable[[torch.Tensor], torch.Tensor]
Maps = dict[str, torch.Tensor]
# Blocks read ahead of each worker, at least.
_AHEAD = 2
# Pixels that are preprocessed at once on a CPU.
_STRIP = 2**15


@dataclass(frozen=True)
class SlideMaps:
    """A slide's maps.

    Attributes:
        maps: name -> its array on disk; see :data:`MAPS`.
        grid: their lattice on the slide.
        seconds: how long it took.
        predicting: seconds of these in which a worker predicted; the mean over workers. A GPU has several.
    """

    maps: dict[str, MapStore]
    grid: TileGrid
    seconds: float
    predicting: float


class Segmenter:
    """Runs one network over slides.

    Args:
        network: the network; moved to the first device, weights laid out channels last, and copied to each further one.
        devices: where it runs; blocks are dealt to them as they become free.
        reader: what it sees.
        target: what it predicts.
        scheme: rotations logits into labels.
        options: how it is run.
        preprocess: ``(3·S, h, w)`` float32 from 0 to 255 on the device, finest view first, -> what the network takes;
            every pixel by itself, as a window of many patches is preprocessed at once.

    Raises:
        ValueError: ``preprocess`` looks at more than one pixel at a time.
    """

    def __init__(
        self,
        network: nn.Module,
        devices: Sequence[torch.device],
        reader: PatchReader,
        target: FieldOfView,
        scheme: ClassScheme,
        options: InferenceOptions,
        preprocess: Preprocess,
    ) -> None:
        self.reader, self.target, self.scheme = reader, target, scheme
        self.devices = list(devices)
        self.options, self.preprocess = options.on(self.devices[0]), preprocess
        _check_pixelwise(preprocess, len(reader.fields_of_view))
        self._alike = _treats_views_alike(preprocess, len(reader.fields_of_view))
        # Weights laid out as the images are: convolutions would otherwise turn them round at every call.
        network = network.to(self.devices[0]).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.networks = [network, *(copy.deepcopy(network).to(device) for device in self.devices[1:])]
        # Kept from slide to slide: freed memory on a GPU is its stream's, and a thread has chosen its convolutions.
        self._streams = [self._streams_on(device) for device in self.devices]
        self._threads: ThreadPoolExecutor | None = None

    def grid(self, slide: Slide) -> TileGrid:
        """The grid over a slide."""
        mpp = self.reader.effective_mpp(slide, self.target.mpp)
        stride = max(1, round(self.target.size * (1 - self.options.overlap)))
        return TileGrid(slide.shape, slide.level0_pixels(mpp), self.target.size, self.options.block, stride)

    def preprocess_view(self, pixels: torch.Tensor, index: int) -> torch.Tensor:
        """One view ``(3, h, w)``, preprocessed. The views of a window differ in size and cannot be stacked."""
        if self._alike:
            return self.preprocess(pixels)
        stacked = pixels.repeat(len(self.reader.fields_of_view), 1, 1)
        return self.preprocess(stacked)[3 * index : 3 * index + 3]

    def segment(
        self,
        slide: Slide,
        folder: Path,
        settings: dict[str, Any],
        maps: tuple[str, ...] = ("labels",),
        tissue: TissueMask | RegionMask | None = None,
        overwrite: bool = False,
        pixelwise: bool = False,
        part: tuple[int, int] = (0, 1),
    ) -> SlideMaps:
        """Predict a slide, or what is left of it to predict.

        Args:
            slide: the slide.
            folder: where the maps and the journal are kept until the caller removes them.
            settings: what the result depends on; see :class:`ProgressLog`.
            maps: which to make; see :class:`Stitcher`.
            tissue: targets without tissue are not predicted (label 0).
            overwrite: start over where the folder holds the beginning of a result of other settings.
            pixelwise: nor are pixels without tissue in the others.
            part: predict only this one, from 0 on, of so many parts of the slide's blocks.

        Raises:
            SlideError: pixels needed cannot be decoded, or what the network makes of them is not a number.
            SettingsError: the folder holds the beginning of a result of other settings.
            ValueError: network, fields of view and options do not go together.
        """
        started = time.monotonic()
        grid = self.grid(slide)
        self._renew_copies()
        views, mpp = self.reader.fields_of_view, self.target.mpp
        margins = Predictor.margins(self.networks[0], views, self.target, self.options)
        reader = BlockReader(self.reader, slide, grid, mpp, margins)
        progress = _Progress()
        workers = [
            _Worker(self, network, stream, grid, reader.steps, maps, progress)
            for network, streams in zip(self.networks, self._streams, strict=True)
            for stream in streams
        ]
        journal = ProgressLog(folder, {**settings, "maps": list(maps), **self._circumstances()}, overwrite)
        stores = self._stores(folder, maps, grid, journal)
        finished = journal.begin()
        jobs = [(block, mask) for block in grid.blocks() if (mask := _wanted(block, grid, tissue)).any()]
        jobs = jobs[len(jobs) * part[0] // part[1] : len(jobs) * (part[0] + 1) // part[1]]
        # Reads all of them from the disk, which takes a while on a large slide.
        said = printable_line(f"{slide.name}: checking finished blocks")
        checked = tqdm(jobs, desc=said, unit="block", disable=not finished, leave=False, mininterval=0.5)
        left = [job for job in checked if not _is_finished(job[0], finished, stores)]
        damaged = sum((block.top, block.left) in finished for block, _ in left)
        if damaged:
            logger.warning("%s: %d finished blocks are damaged and are predicted again", folder, damaged)
        lost = sum((block.top, block.left) not in finished and _holds(stores, block) for block, _ in left)
        foreign = finished.keys() - {(block.top, block.left) for block in grid.blocks()}
        # A kill between writing a block and logging it loses one.
        if lost > 1 or (lost and foreign):
            logger.warning("%s: the log lacks %d blocks that the maps hold: they are predicted again", folder, lost)
        total, to_do = (sum(int(mask.sum()) for _, mask in some) for some in (jobs, left))
        alone = [device.type for device in self.devices] == ["cpu"]
        memory = retain_freed_memory() if alone else nullcontext()
        if journal.resumed:
            logger.info("%s: resuming, %d of %d patches are in finished blocks", slide.name, total - to_do, total)
        bar = progress.shown(slide.name, total, total - to_do)
        running = (
            _in_turn(left, reader, workers[0], self.options.readers)
            if alone
            else _at_once(left, reader, workers, self.options.readers, self._pool(len(workers)))
        )
        with memory, bar, _named(slide), closing(running) as blocks:
            for block, _, found in blocks:
                glass = ~_tissue_of(block, grid, tissue) if tissue is not None and pixelwise else None
                written = 0
                for name in maps:
                    values = found[name].numpy()
                    if glass is not None:
                        values[..., glass] = 0
                    stores[name].write(block.top, block.left, values)
                    written = checksum(values, written)
                journal.mark_done(block.top, block.left, written)
        predicting = sum(worker.seconds for worker in workers) / len(workers)
        return SlideMaps(stores, grid, time.monotonic() - started, predicting)

    def _stores(self, folder: Path, maps: tuple[str, ...], grid: TileGrid, journal: ProgressLog) -> dict[str, MapStore]:
        """Return the arrays that the journal is of; new ones if there is none, or some of them cannot be opened."""
        planes = {"labels": (), "entropy": (), "probabilities": (len(self.scheme),)}
        shapes = {folder / f"{name}.zarr": (*planes[name], *grid.shape) for name in maps}
        if journal.resumed:
            try:
                kept = [MapStore(path, shape, grid.chunk, keep=True) for path, shape in shapes.items()]
                if [store.array.shape for store in kept] == [*shapes.values()]:
                    return dict(zip(maps, kept, strict=True))
            except OSError as error:
                if not isinstance(error, FileNotFoundError):
                    raise
            except Exception:  # whatever zarr makes of damaged metadata
                logger.debug("maps in %s", folder, exc_info=True)
            journal.give_up(f"maps in {folder} are damaged")
        return {
            name: MapStore(path, shape, grid.chunk) for name, (path, shape) in zip(maps, shapes.items(), strict=True)
        }

    def _streams_on(self, device: torch.device) -> list[torch.cuda.Stream | None]:
        """Return a stream for each worker on a device; a CPU's one worker has none."""
        if device.type != "cuda":
            return [None]
        return [torch.cuda.Stream(device) for _ in range(self.options.streams)]

    def _pool(self, workers: int) -> ThreadPoolExecutor:
        """Return the threads that predict."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(workers, "predicting")
        return self._threads

    def _renew_copies(self) -> None:
        """What is loaded into the network after its copies were made is theirs, too."""
        for network in self.networks:
            network.eval()
            if network is not self.networks[0]:
                network.load_state_dict(self.networks[0].state_dict())

    def _circumstances(self) -> dict[str, Any]:
        """Return what the last bits depend on besides the settings: elsewhere, a slide does not resume."""
        kinds = sorted({device.type for device in self.devices})
        return {"devices": kinds, "torch": torch.__version__, "multimag": __version__}


class _Progress:
    """The bar of a slide; moves with every batch, whichever thread predicted it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bar = tqdm(disable=True)
        self._done = 0.0

    @contextmanager
    def shown(self, name: str, total: int, before: int) -> Iterator[None]:
        """Show the bar within: ``total`` targets, some of which were predicted before."""
        self._done = float(before)
        with tqdm(total=total, initial=before, desc=printable_line(name), unit="patch", mininterval=0.5) as self._bar:
            yield

    def add(self, targets: float) -> None:
        """Count further targets; one that is predicted several times counts a part each time."""
        with self._lock:
            self._done += targets
            self._bar.update(int(self._done + 1e-6) - self._bar.n)


class _Worker:
    """Predicts blocks on one device; on a GPU, in a stream of its own."""

    def __init__(
        self,
        segmenter: Segmenter,
        network: nn.Module,
        stream: torch.cuda.Stream | None,
        grid: TileGrid,
        steps: Sequence[int] | None,
        maps: tuple[str, ...],
        progress: _Progress,
    ) -> None:
        self.segmenter, self.grid, self.maps, self.progress = segmenter, grid, maps, progress
        self.seconds = 0.0
        self.device = next(network.parameters()).device
        views = segmenter.reader.fields_of_view
        self.predictor = Predictor(network, grid, views, segmenter.target, steps, segmenter.options)
        self.stream = stream
        if stream is not None:
            # The weights came in another stream.
            torch.cuda.synchronize(self.device)

    def predict(self, block: Block, mask: np.ndarray, windows: Sequence[BlockInput]) -> Maps:
        """The maps of a block, on the CPU."""
        started = time.monotonic()
        # Both hold for one thread only. Without a stream, CUDA must not be initialised.
        in_stream = nullcontext() if self.stream is None else torch.cuda.stream(self.stream)
        with torch.inference_mode(), in_stream:
            on_device = [self._prepared(window) for window in windows]
            options, scheme = self.segmenter.options, self.segmenter.scheme
            stitcher = Stitcher(self.grid, block, mask, scheme, options, self.maps, self.device)
            for predicted in self.predictor(on_device):
                stitcher.add(predicted)
                self.progress.add(predicted.targets / self.predictor.passes)
            maps = {name: found.cpu() for name, found in stitcher.finish().items()}
        self.seconds += time.monotonic() - started
        return maps

    def _prepared(self, window: BlockInput) -> BlockTensors:
        views = [self._prepared_view(view, index) for index, view in enumerate(window.views)]
        return BlockTensors(window.row, window.column, window.mask, views, window.tiles, window.at_grid_edge)

    def _prepared_view(self, view: np.ndarray, index: int) -> torch.Tensor:
        if view.ndim == 4:
            return torch.stack([self._prepared_view(tile, index) for tile in view])
        dtype = getattr(torch, self.segmenter.options.dtype)
        # A pixel's channels stay side by side from the decoder to the network.
        pixels = torch.from_numpy(np.ascontiguousarray(view.transpose(1, 2, 0)))
        if self.stream is not None:
            # Only from pinned memory does a copy leave the processor free.
            pixels = pixels.pin_memory().to(self.device, non_blocking=True)
        prepared = torch.empty(pixels.shape, dtype=dtype, device=self.device)
        height, width = pixels.shape[:2]
        # A CPU does a strip that its cache holds several times as fast as a whole window.
        rows = max(1, _STRIP // width) if self.device.type == "cpu" else height
        for top in range(0, height, rows):
            strip = pixels[top : top + rows].permute(2, 0, 1).float()
            prepared[top : top + rows] = self.segmenter.preprocess_view(strip, index).permute(1, 2, 0)
        return prepared.permute(2, 0, 1)


def _in_turn(
    jobs: Sequence[tuple[Block, np.ndarray]], reader: BlockReader, worker: _Worker, readers: int
) -> Generator[tuple[Block, np.ndarray, Maps]]:
    """Finished blocks of one worker that predicts in the caller's thread, while a few are read ahead."""
    waiting = iter(jobs)
    ahead: deque[tuple[tuple[Block, np.ndarray], Future[list[BlockInput]]]] = deque()
    with ThreadPoolExecutor(readers) as reading:
        try:
            while True:
                while len(ahead) < max(readers, _AHEAD) and (job := next(waiting, None)) is not None:
                    ahead.append((job, reading.submit(reader.read, *job)))
                if not ahead:
                    return
                (block, mask), read = ahead.popleft()
                yield block, mask, worker.predict(block, mask, read.result())
        finally:
            # What is queued when a block fails, or the caller is interrupted, is not begun.
            reading.shutdown(wait=False, cancel_futures=True)


def _at_once(
    jobs: Sequence[tuple[Block, np.ndarray]],
    reader: BlockReader,
    workers: Sequence[_Worker],
    readers: int,
    predicting: ThreadPoolExecutor,
) -> Generator[tuple[Block, np.ndarray, Maps]]:
    """Finished blocks of several workers, or one on a GPU, in the order in which they become so; at most a few are
    anywhere on the way."""
    waiting = iter(jobs)
    with ThreadPoolExecutor(readers) as reading:
        free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in workers:
            free.put(worker)

        def predict(block: Block, mask: np.ndarray, read: Future[list[BlockInput]]) -> Maps:
            worker = free.get()
            try:
                return worker.predict(block, mask, read.result())
            finally:
                free.put(worker)

        # Enough that every reader has a block to read while every device has one to predict.
        most = len(workers) + max(readers, _AHEAD * len(workers))
        running: dict[Future[Maps], tuple[Block, np.ndarray]] = {}
        try:
            while True:
                while len(running) < most and (job := next(waiting, None)) is not None:
                    running[predicting.submit(predict, *job, reading.submit(reader.read, *job))] = job
                if not running:
                    return
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    block, mask = running.pop(future)
                    yield block, mask, future.result()
        finally:
            reading.shutdown(wait=False, cancel_futures=True)
            for future in running:
                future.cancel()
            wait(running)


@contextmanager
def _named(slide: Slide) -> Iterator[None]:
    """Within, output that is not a number is an error of this slide."""
    try:
        yield
    except FloatingPointError as error:
        remedy = "In float16, numbers above 65504 overflow: set dtype to bfloat16 or float32. Or check the weights"
        raise SlideError(slide.path, str(error), remedy) from error


def _is_finished(block: Block, finished: Mapping[tuple[int, int], int], stores: Mapping[str, MapStore]) -> bool:
    """Return whether a block was ticked off and its pixels are those that were written then."""
    ticked = finished.get((block.top, block.left))
    if ticked is None:
        return False
    there = 0
    for store in stores.values():
        found = store.checksum(block.top, block.left, block.height, block.width, there)
        if found is None:
            return False
        there = found
    return there == ticked


def _holds(stores: Mapping[str, MapStore], block: Block) -> bool:
    """Return whether a map holds pixels of a block."""
    return any(store.written(block.top, block.left, block.height, block.width) for store in stores.values())


def _tissue_of(block: Block, grid: TileGrid, tissue: TissueMask | RegionMask) -> np.ndarray:
    """Whether each pixel of a block is tissue: ``(height, width)`` bool."""
    rows = (block.top + np.arange(block.height) + 0.5) * grid.pixel[0]
    columns = (block.left + np.arange(block.width) + 0.5) * grid.pixel[1]
    return tissue.at(rows, columns)


def _wanted(block: Block, grid: TileGrid, tissue: TissueMask | RegionMask | None) -> np.ndarray:
    """Targets of a block that are to be predicted: ``(rows, columns)`` bool."""
    mask = np.ones((block.rows, block.columns), dtype=bool)
    if tissue is not None:
        for row, column in np.ndindex(mask.shape):
            mask[row, column] = tissue.any(*grid.rectangle(block.row + row, block.column + column))
    return mask


def _check_pixelwise(preprocess: Preprocess, views: int) -> None:
    pixels = sample_pixels(views)
    whole, part = preprocess(pixels.clone()), preprocess(pixels[:, 2:6, 3:7].clone())
    if whole.shape != pixels.shape or not torch.allclose(whole[:, 2:6, 3:7], part, atol=1e-6):
        raise ValueError(
            "preprocessing must treat every pixel by itself, as ScaleIntensityRanged or a normalisation by fixed means "
            "does: a slide is preprocessed in windows of many patches, not patch by patch"
        )
    for first in range(0, 3 * views, 3):
        view = slice(first, first + 3)
        if not torch.allclose(preprocess(pixels[view].repeat(views, 1, 1))[view], whole[view], atol=1e-6):
            raise ValueError("preprocessing must treat every field of view by itself: they are preprocessed one by one")


def _treats_views_alike(preprocess: Preprocess, views: int) -> bool:
    """Whether every view may be preprocessed alone: nothing depends on which channels it stands in."""
    pixels = sample_pixels(views)
    whole = preprocess(pixels.clone())
    try:
        alone = [preprocess(pixels[first : first + 3].clone()) for first in range(0, 3 * views, 3)]
    except Exception:  # whatever a transform made for so many channels raises on three
        return False
    return all(torch.equal(whole[3 * index : 3 * index + 3], view) for index, view in enumerate(alone))


def sample_pixels(views: int) -> torch.Tensor:
    """``(3·S, 8, 8)`` of all sorts of values from 0 to 255."""
    return torch.arange(3 * views * 64, dtype=torch.float32).reshape(3 * views, 8, 8) * 31 % 256
