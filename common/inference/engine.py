"""Slide in, label map out: block by block, reading ahead of the network, in bounded memory."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
import zarr
from tqdm import tqdm

from ..classes import ClassScheme
from ..slides import FieldOfView, PatchReader, Slide, TissueMask
from .plan import Block, Plan
from .reading import BlockReader

Predict = Callable[[torch.Tensor], torch.Tensor]
_READ_AHEAD = 2


class LabelCanvas:
    """A slide's label map on disk, in compressed chunks of one block each; what is not written is 0.

    Args:
        folder: where its chunks go; removed by :meth:`remove`.
        shape: height and width.
        chunk: pixels a side of a block.
    """

    def __init__(self, folder: Path, shape: tuple[int, int], chunk: int) -> None:
        self.folder, self.shape, self.chunk = folder, shape, chunk
        shutil.rmtree(folder, ignore_errors=True)
        self._array = zarr.create_array(
            store=str(folder), shape=shape, chunks=(chunk, chunk), dtype="uint8", fill_value=0
        )

    def write(self, top: int, left: int, labels: np.ndarray) -> None:
        """Put labels at a place; what reaches over the border is cut off."""
        height, width = min(labels.shape[0], self.shape[0] - top), min(labels.shape[1], self.shape[1] - left)
        self._array[top : top + height, left : left + width] = labels[:height, :width]

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """``(height, width)`` uint8 of a rectangle inside."""
        return np.asarray(self._array[top : top + height, left : left + width])

    def bands(self, height: int) -> Iterator[np.ndarray]:
        """The map from the top in bands of ``height`` rows."""
        for top in range(0, self.shape[0], height):
            yield self.read(top, 0, min(height, self.shape[0] - top), self.shape[1])

    def remove(self) -> None:
        """Delete it from disk."""
        shutil.rmtree(self.folder, ignore_errors=True)


def segment(
    slide: Slide,
    predict: Predict,
    reader: PatchReader,
    target: FieldOfView,
    scheme: ClassScheme,
    canvas_folder: Path,
    *,
    tissue: TissueMask | None = None,
    batch_size: int = 8,
    block: int = 8,
    device: torch.device | str = "cpu",
    preprocess: Callable[[np.ndarray], torch.Tensor],
) -> tuple[LabelCanvas, Plan]:
    """Segment a slide, target by target without overlap.

    Args:
        slide: the slide.
        predict: a batch ``(B, 3·S, H, W)`` on the device -> logits ``(B, C, h, w)``.
        reader: what the network sees.
        target: what it predicts.
        scheme: turns logits into labels.
        canvas_folder: where the label map is collected.
        tissue: targets without tissue are not predicted (label 0).
        batch_size: patches per call of ``predict``.
        block: targets a side of a block, which is read at once.
        device: of the network.
        preprocess: one patch ``(3·S, H, W)`` uint8 -> what the network takes.

    Raises:
        SlideError: pixels needed cannot be decoded.
    """
    mpp = reader.actual_mpp(slide, target.mpp)
    plan = Plan(slide.shape, slide.pixel(mpp), target.size, block)
    canvas = LabelCanvas(canvas_folder, plan.shape, block * target.size)
    blocks = BlockReader(reader, slide, plan, target.mpp)
    jobs = [(b, places) for b in plan.blocks() if (places := _places(b, plan, tissue))]
    bar = tqdm(total=sum(len(places) for _, places in jobs), desc=slide.name, unit="patch")
    with ExitStack() as undo, bar, ThreadPoolExecutor(_READ_AHEAD) as pool:
        undo.callback(canvas.remove)
        for (current, places), patches in _read_ahead(pool, blocks, jobs):
            labels = np.zeros((current.rows * target.size, current.columns * target.size), dtype=np.uint8)
            for first in range(0, len(places), batch_size):
                batch = torch.stack([preprocess(patch) for patch in patches[first : first + batch_size]]).to(device)
                predicted = scheme.labels_from_logits(predict(batch)).cpu().numpy()
                for (row, column), part in zip(places[first : first + batch_size], predicted, strict=True):
                    top, left = row * target.size, column * target.size
                    labels[top : top + target.size, left : left + target.size] = part
                bar.update(len(predicted))
            canvas.write(current.row * target.size, current.column * target.size, labels)
        undo.pop_all()
    return canvas, plan


def _places(block: Block, plan: Plan, tissue: TissueMask | None) -> list[tuple[int, int]]:
    """Targets of a block that are to be predicted, as rows and columns within it."""
    every = [(row, column) for row in range(block.rows) for column in range(block.columns)]
    if tissue is None:
        return every
    return [place for place in every if tissue.any(*plan.rectangle(block.row + place[0], block.column + place[1]))]


def _read_ahead(
    pool: ThreadPoolExecutor, reader: BlockReader, jobs: list[tuple[Block, list[tuple[int, int]]]]
) -> Iterator[tuple[tuple[Block, list[tuple[int, int]]], np.ndarray]]:
    """Blocks in order with their patches; at most a few are held at once."""
    waiting: deque[tuple[tuple[Block, list[tuple[int, int]]], Future[np.ndarray]]] = deque()
    try:
        for job in jobs:
            waiting.append((job, pool.submit(reader.read, *job)))
            if len(waiting) > _READ_AHEAD:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()
    finally:
        for _, future in waiting:
            future.cancel()
