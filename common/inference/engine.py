"""Slide in, maps out: read ahead, predict, stitch, write, in bounded memory.

Three stages run at the same time: threads read the next blocks, further threads predict and stitch, and the caller's
thread writes finished blocks and logs them. On one CPU the caller's thread does both of the latter: writing would only
compete with predicting.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from .pipeline import BlockJob, DevicePipeline, Maps, ProgressBar, run_at_once, run_in_turn
from .prediction import Predictor
from .preprocessing import Preprocess, check_pixelwise, treats_views_alike
from .progress_log import ProgressLog
from .reading import BlockReader

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SlideMaps:
    """A slide's maps.

    Attributes:
        maps: name -> its array on disk; see :data:`MAPS`.
        grid: the tile grid that they lie on.
        seconds: duration of the segmentation.
        predicting: the part of it in which a pipeline predicted, mean over pipelines. A GPU has several.
    """

    maps: dict[str, MapStore]
    grid: TileGrid
    seconds: float
    predicting: float


class Segmenter:
    """Segmentation of slides with one network.

    Args:
        network: the network. It is moved to the first device, its weights in channels-last memory format, and copied
            to each further device.
        devices: where the network runs; each takes the next block as soon as it is free.
        reader: the fields of view.
        target: what the network predicts.
        scheme: the classes; turns logits into labels.
        options: how the network is run.
        preprocess: ``(3·S, h, w)`` float32 from 0 to 255 on the device, finest view first, -> what the network takes.
            It must treat every pixel by itself, as views of whole blocks are preprocessed at once.

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
        self._on_cpu_alone = [device.type for device in self.devices] == ["cpu"]
        self.options, self.preprocess = options.on(self.devices[0]), preprocess
        check_pixelwise(preprocess, len(reader.fields_of_view))
        self._alike = treats_views_alike(preprocess, len(reader.fields_of_view))
        # The same memory format as the images': convolutions would otherwise convert the weights at every call.
        network = network.to(self.devices[0]).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.networks = [network, *(copy.deepcopy(network).to(device) for device in self.devices[1:])]
        # Kept from slide to slide: memory freed on a GPU belongs to its stream, and convolution algorithms are chosen
        # per thread.
        self._streams = [self._streams_on(device) for device in self.devices]
        self._threads: ThreadPoolExecutor | None = None

    def grid(self, slide: Slide) -> TileGrid:
        """Return the tile grid over a slide."""
        mpp = self.reader.effective_mpp(slide, self.target.mpp)
        stride = max(1, round(self.target.size * (1 - self.options.overlap)))
        return TileGrid(slide.shape, slide.level0_pixels(mpp), self.target.size, self.options.block, stride)

    def preprocess_view(self, pixels: torch.Tensor, index: int) -> torch.Tensor:
        """Preprocess the view ``(3, h, w)`` of an index. The views of a block differ in size and cannot be stacked."""
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
        """Predict a slide, or the blocks of it that are not finished.

        Args:
            slide: the slide.
            folder: where the maps and the progress log are kept until the caller removes them.
            settings: everything that the result depends on; see :class:`ProgressLog`.
            maps: names of the maps to make; see :class:`Stitcher`.
            tissue: targets without tissue are not predicted (label 0).
            overwrite: start over if the folder holds blocks of other settings.
            pixelwise: in targets with tissue, set pixels without it to 0.
            part: number of the part of the slide's blocks to predict, from 0, and number of parts.

        Raises:
            SlideError: pixels that are needed cannot be decoded, or the network's output for them is not finite.
            SettingsError: the folder holds blocks of other settings.
            ValueError: network, fields of view and options do not fit together.
        """
        started = time.monotonic()
        grid = self.grid(slide)
        self._update_copies()
        margins = Predictor.margins(self.networks[0], self.reader.fields_of_view, self.target, self.options)
        reader = BlockReader(self.reader, slide, grid, self.target.mpp, margins)
        progress = ProgressBar()
        pipelines = self._pipelines(grid, reader.steps, maps, progress)
        log = ProgressLog(folder, {**settings, "maps": list(maps), **self._environment()}, overwrite)
        stores = self._stores(folder, maps, grid, log)
        finished = log.begin()
        jobs = [(block, mask) for block in grid.blocks() if (mask := _target_mask(block, grid, tissue)).any()]
        jobs = jobs[len(jobs) * part[0] // part[1] : len(jobs) * (part[0] + 1) // part[1]]
        remaining = _unfinished(jobs, finished, stores, slide.name)
        _warn_of_lost_blocks(remaining, finished, stores, grid, folder)
        total, to_do = (sum(int(mask.sum()) for _, mask in some) for some in (jobs, remaining))
        if log.resumed:
            logger.info("%s: resuming, %d of %d patches are in finished blocks", slide.name, total - to_do, total)
        bar = progress.shown(slide.name, total, total - to_do)
        memory = retain_freed_memory() if self._on_cpu_alone else nullcontext()
        with memory, bar, _named(slide), closing(self._run(remaining, reader, pipelines)) as blocks:
            for block, found in blocks:
                background = ~_tissue_of(block, grid, tissue) if tissue is not None and pixelwise else None
                log.mark_done(block.top, block.left, _write(stores, block, found, background))
        predicting = sum(pipeline.seconds for pipeline in pipelines) / len(pipelines)
        return SlideMaps(stores, grid, time.monotonic() - started, predicting)

    def _run(
        self, jobs: Sequence[BlockJob], reader: BlockReader, pipelines: Sequence[DevicePipeline]
    ) -> Generator[tuple[Block, Maps]]:
        if self._on_cpu_alone:
            return run_in_turn(jobs, reader, pipelines[0], self.options.reader_threads)
        if self._threads is None:
            self._threads = ThreadPoolExecutor(len(pipelines), "predicting")
        return run_at_once(jobs, reader, pipelines, self.options.reader_threads, self._threads)

    def _pipelines(
        self, grid: TileGrid, steps: Sequence[int] | None, maps: tuple[str, ...], progress: ProgressBar
    ) -> list[DevicePipeline]:
        views = self.reader.fields_of_view
        return [
            DevicePipeline(
                Predictor(network, grid, views, self.target, steps, self.options),
                self.preprocess_view,
                self.scheme,
                maps,
                next(network.parameters()).device,
                stream,
                progress,
            )
            for network, streams in zip(self.networks, self._streams, strict=True)
            for stream in streams
        ]

    def _stores(self, folder: Path, maps: tuple[str, ...], grid: TileGrid, log: ProgressLog) -> dict[str, MapStore]:
        """Return the maps that the log belongs to; new ones if there is no log, or some of them cannot be opened."""
        planes = {"labels": (), "entropy": (), "probabilities": (len(self.scheme),)}
        shapes = {folder / f"{name}.zarr": (*planes[name], *grid.shape) for name in maps}
        if log.resumed:
            try:
                kept = [MapStore(path, shape, grid.chunk, keep=True) for path, shape in shapes.items()]
                if [store.array.shape for store in kept] == [*shapes.values()]:
                    return dict(zip(maps, kept, strict=True))
            except OSError as error:
                if not isinstance(error, FileNotFoundError):
                    raise
            except Exception:  # whatever zarr makes of damaged metadata
                logger.debug("maps in %s", folder, exc_info=True)
            log.give_up(f"maps in {folder} are damaged")
        return {
            name: MapStore(path, shape, grid.chunk) for name, (path, shape) in zip(maps, shapes.items(), strict=True)
        }

    def _streams_on(self, device: torch.device) -> list[torch.cuda.Stream | None]:
        """Return a stream for each pipeline on a device; a CPU's one pipeline has none."""
        if device.type != "cuda":
            return [None]
        return [torch.cuda.Stream(device) for _ in range(self.options.streams)]

    def _update_copies(self) -> None:
        """Load the network's weights into its copies: they may have been loaded after the copies were made."""
        for network in self.networks:
            network.eval()
            if network is not self.networks[0]:
                network.load_state_dict(self.networks[0].state_dict())

    def _environment(self) -> dict[str, Any]:
        """Return what the last bits of a result depend on besides the settings. A slide resumes only in the same."""
        kinds = sorted({device.type for device in self.devices})
        return {"devices": kinds, "torch": torch.__version__, "multimag": __version__}


@contextmanager
def _named(slide: Slide) -> Iterator[None]:
    """Turn the error of an output that is not finite into one of this slide, within the context."""
    try:
        yield
    except FloatingPointError as error:
        remedy = "In float16, numbers above 65504 overflow: set dtype to bfloat16 or float32. Or check the weights"
        raise SlideError(slide.path, str(error), remedy) from error


def _unfinished(
    jobs: Sequence[BlockJob], finished: Mapping[tuple[int, int], int], stores: Mapping[str, MapStore], name: str
) -> list[BlockJob]:
    """Return the jobs whose blocks are not finished. Reads the finished ones, which takes a while on a large slide."""
    label = printable_line(f"{name}: checking finished blocks")
    checked = tqdm(jobs, desc=label, unit="block", disable=not finished, leave=False, mininterval=0.5)
    return [job for job in checked if not _is_finished(job[0], finished, stores)]


def _warn_of_lost_blocks(
    remaining: Sequence[BlockJob],
    finished: Mapping[tuple[int, int], int],
    stores: Mapping[str, MapStore],
    grid: TileGrid,
    folder: Path,
) -> None:
    """Warn of finished blocks that are damaged, and of written blocks that the log lacks."""
    damaged = sum((block.top, block.left) in finished for block, _ in remaining)
    if damaged:
        logger.warning("%s: %d finished blocks are damaged and are predicted again", folder, damaged)
    lost = sum((block.top, block.left) not in finished and _holds(stores, block) for block, _ in remaining)
    foreign = finished.keys() - {(block.top, block.left) for block in grid.blocks()}
    # A kill between writing a block and logging it loses one.
    if lost > 1 or (lost and foreign):
        logger.warning("%s: the log lacks %d blocks that the maps hold: they are predicted again", folder, lost)


def _is_finished(block: Block, finished: Mapping[tuple[int, int], int], stores: Mapping[str, MapStore]) -> bool:
    """Return whether a block is logged and its pixels still have the checksum that was logged."""
    logged = finished.get((block.top, block.left))
    if logged is None:
        return False
    found = 0
    for store in stores.values():
        continued = store.checksum(block.top, block.left, block.height, block.width, found)
        if continued is None:
            return False
        found = continued
    return found == logged


def _holds(stores: Mapping[str, MapStore], block: Block) -> bool:
    """Return whether a map holds pixels of a block."""
    return any(store.written(block.top, block.left, block.height, block.width) for store in stores.values())


def _write(stores: Mapping[str, MapStore], block: Block, found: Maps, background: np.ndarray | None) -> int:
    """Write the maps of a block, 0 on the background ``(height, width)``. Return their checksum."""
    written = 0
    for name, store in stores.items():
        values = found[name].numpy()
        if background is not None:
            values[..., background] = 0
        store.write(block.top, block.left, values)
        written = checksum(values, written)
    return written


def _tissue_of(block: Block, grid: TileGrid, tissue: TissueMask | RegionMask) -> np.ndarray:
    """Return whether each pixel of a block is tissue, ``(height, width)`` bool."""
    rows = (block.top + np.arange(block.height) + 0.5) * grid.pixel[0]
    columns = (block.left + np.arange(block.width) + 0.5) * grid.pixel[1]
    return tissue.at(rows, columns)


def _target_mask(block: Block, grid: TileGrid, tissue: TissueMask | RegionMask | None) -> np.ndarray:
    """Return which targets of a block to predict, ``(rows, columns)`` bool."""
    mask = np.ones((block.rows, block.columns), dtype=bool)
    if tissue is not None:
        for row, column in np.ndindex(mask.shape):
            mask[row, column] = tissue.any(*grid.rectangle(block.row + row, block.column + column))
    return mask
