"""Run a network over a block's targets: patch by patch, with shared context, or over the whole block at once.

Inputs are tensors on the network's device, ``(3, h, w)`` per view, or ``(T, 3, h, w)`` for its tiles. Outputs are
logits with their positions in the block.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..maps.grid import TileGrid
from ..slides import FieldOfView
from .autocast import autocast
from .options import InferenceOptions

_COMPILING = threading.Lock()
# Symmetries of the square: number of quarter turns, then whether it is flipped left to right.
_TRANSFORMS = {
    "none": [(0, False)],
    "flips": [(0, False), (2, False), (0, True), (2, True)],
    "d4": [(k, flipped) for flipped in (False, True) for k in range(4)],
}


@dataclass(frozen=True)
class PatchLogits:
    """Logits of some targets.

    Attributes:
        places: ``(top, left)`` of each in its block, in target pixels.
        logits: ``(B, C, h, w)``, one per place.
        targets: number of targets; more than places where one place holds several.
    """

    places: list[tuple[int, int]]
    logits: torch.Tensor
    targets: int


@dataclass(frozen=True)
class BlockTensors:
    """A :class:`BlockInput` on the network's device."""

    row: int
    column: int
    mask: np.ndarray
    views: Sequence[torch.Tensor]
    tiles: Sequence[np.ndarray | None]
    at_grid_edge: np.ndarray


class Predictor:
    """Prediction of the targets of blocks with one network on one device.

    Args:
        network: the network, in evaluation mode.
        grid: the slide's tile grid.
        fields_of_view: what the network sees, finest first.
        target: what the network predicts.
        steps: pixels of each view from one target to the next, or None; see :class:`BlockReader`.
        options: how the network is run.

    Raises:
        ValueError: the network, the fields of view and the options do not fit together. The message says what does.
    """

    def __init__(
        self,
        network: Any,
        grid: TileGrid,
        fields_of_view: Sequence[FieldOfView],
        target: FieldOfView,
        steps: Sequence[int] | None,
        options: InferenceOptions,
    ) -> None:
        self.grid, self.steps, self.options = grid, steps, options
        self.size = fields_of_view[0].size
        self._dtype = getattr(torch, options.dtype)
        self._tiled = len(fields_of_view) > 1 and all(view.anchor == "tile" for view in fields_of_view[1:])
        self._check(network, fields_of_view)
        self._forward = _compiled(network, options)
        self._encode_context = _compiled(getattr(network, "encode_context", None), options)
        self._forward_with_context = _compiled(getattr(network, "forward_with_context", None), options)
        shared = self._shared_tiles if self._tiled else self._shared
        run = {"per_patch": self._per_patch, "shared": shared, "seamless": self._seamless}
        # A single view has no coarse branch to share.
        alone = options.context == "shared" and len(fields_of_view) == 1
        self._run = run["per_patch" if alone else options.context]

    @staticmethod
    def margins(
        network: Any, fields_of_view: Sequence[FieldOfView], target: FieldOfView, options: InferenceOptions
    ) -> Any:
        """Return the pixels of each view that are read on every side of a block's targets; None: as many as a patch
        has."""
        if options.context != "seamless" or not getattr(network, "receptive_margin", 0):
            return None
        ratios = [max(1, round(view.mpp / target.mpp)) for view in fields_of_view]
        return [network.receptive_margin // ratio + (network.receptive_margin if ratio > 1 else 0) for ratio in ratios]

    @property
    def passes(self) -> int:
        """Return how often every target is predicted: once per symmetry."""
        return len(_TRANSFORMS[self.options.tta])

    def __call__(self, inputs: Sequence[BlockTensors]) -> Iterator[PatchLogits]:
        """Yield the logits of all selected targets, once per symmetry."""
        for k, flipped in _TRANSFORMS[self.options.tta]:
            transformed = [_transform(tensors, k, flipped) for tensors in inputs]
            for found in self._run(transformed, [_source_index(tensors, k, flipped) for tensors in inputs]):
                yield PatchLogits(found.places, _inverse_transform(found.logits, k, flipped), found.targets)

    def _per_patch(self, inputs: Sequence[BlockTensors], sources: Sequence[np.ndarray]) -> Iterator[PatchLogits]:
        jobs = [(tensors, at, self._place(tensors, source)) for tensors, source, at in _each(inputs, sources)]
        for batch in _batches(jobs, self.options.batch_size):
            views = range(len(inputs[0].views))
            patches = self._stacked([[self._crop(tensors, view, *at) for view in views] for tensors, at, _ in batch])
            yield self._patch_logits([place for _, _, place in batch], self._call(self._forward, patches))

    def _shared(self, inputs: Sequence[BlockTensors], sources: Sequence[np.ndarray]) -> Iterator[PatchLogits]:
        for tensors, index in zip(inputs, sources, strict=True):
            height, width = self._extent(tensors)
            context = self._call_context([view[None] for view in tensors.views[1:]], height, width)
            jobs = [(at, self._place(tensors, source)) for _, source, at in _each([tensors], [index])]
            for batch in _batches(jobs, self.options.batch_size):
                finest = self._stacked([[self._crop(tensors, 0, *at)] for at, _ in batch])
                cropped = [torch.cat([self._crop_map(part, height, *at) for at, _ in batch]) for part in context]
                logits = self._call(self._forward_with_context, finest, cropped)
                yield self._patch_logits([place for _, place in batch], logits)

    def _shared_tiles(self, inputs: Sequence[BlockTensors], sources: Sequence[np.ndarray]) -> Iterator[PatchLogits]:
        for tensors, index in zip(inputs, sources, strict=True):
            jobs = [
                (_tiles_of(tensors, at), at, self._place(tensors, source))
                for _, source, at in _each([tensors], [index])
            ]
            distinct = list(dict.fromkeys(tiles for tiles, _, _ in jobs))
            context = self._encoded_tiles(tensors, distinct)
            for batch in _batches(jobs, self.options.batch_size):
                finest = self._stacked([[self._crop(tensors, 0, *at)] for _, at, _ in batch])
                which = [distinct.index(tiles) for tiles, _, _ in batch]
                logits = self._call(self._forward_with_context, finest, [part[which] for part in context])
                yield self._patch_logits([place for _, _, place in batch], logits)

    def _encoded_tiles(self, tensors: BlockTensors, distinct: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
        """Return the context maps of distinct sets of tiles, one tile of each coarse view to a set."""
        encoded = []
        for batch in _batches(list(distinct), self.options.batch_size):
            views = [view[list(which)] for view, which in zip(tensors.views[1:], zip(*batch, strict=True), strict=True)]
            encoded.append(self._call_context(views, self.size, self.size))
        return [torch.cat(parts) for parts in zip(*encoded, strict=True)]

    def _seamless(self, inputs: Sequence[BlockTensors], sources: Sequence[np.ndarray]) -> Iterator[PatchLogits]:
        for tensors in inputs:
            finest = tensors.views[0]
            context = self._call_context([view[None] for view in tensors.views[1:]], *finest.shape[1:])
            height, width = self._extent(tensors)
            (rows, top), (columns, left) = (
                self._finest_span(side, extent, at_grid_edge)
                for side, extent, at_grid_edge in zip(
                    finest.shape[1:], (height, width), tensors.at_grid_edge, strict=True
                )
            )
            cropped = [_crop_map(part, finest.shape[1] // part.shape[2], rows, columns) for part in context]
            logits = self._call(self._forward_with_context, finest[None, :, rows, columns], cropped)
            place = (tensors.row * self.grid.stride, tensors.column * self.grid.stride)
            predicted = logits[:, :, top : top + height, left : left + width]
            yield PatchLogits([place], predicted, int(tensors.mask.sum()))

    def _finest_span(self, side: int, extent: int, at_grid_edge: np.ndarray) -> tuple[slice, int]:
        """Return the part of the finest view that its branch sees along one axis, and where the targets begin in it.

        A network whose finest view is the target never saw the surroundings of a slide there in training. At the edge
        of the grid the branch therefore ends with the targets, as it does patch by patch, instead of seeing black.

        Args:
            side: pixels of the view along the axis.
            extent: pixels of the targets, which lie in its middle.
            at_grid_edge: ``(2,)`` bool: whether the grid begins and whether it ends with the block.
        """
        margin = (side - extent) // 2
        before, after = (0 if edge and self.size == self.grid.target else margin for edge in at_grid_edge)
        return slice(margin - before, margin + extent + after), before

    def _patch_logits(self, places: list[tuple[int, int]], logits: torch.Tensor) -> PatchLogits:
        side = self.grid.target
        if logits.shape[2:] != (side, side):
            raise ValueError(
                f"the network's output has {logits.shape[2]} x {logits.shape[3]} pixels, the target {side} x {side}. "
                "Set target to what the network predicts"
            )
        return PatchLogits(places, logits, len(places))

    def _place(self, tensors: BlockTensors, source: tuple[int, int]) -> tuple[int, int]:
        """Return top and left of a target in its block, in target pixels."""
        return (tensors.row + source[0]) * self.grid.stride, (tensors.column + source[1]) * self.grid.stride

    def _extent(self, tensors: BlockTensors) -> tuple[int, int]:
        """Return height and width of all targets together, in target pixels."""
        rows, columns = tensors.mask.shape
        stride, target = self.grid.stride, self.grid.target
        return (rows - 1) * stride + target, (columns - 1) * stride + target

    @staticmethod
    def _stacked(views: Sequence[Sequence[torch.Tensor]]) -> torch.Tensor:
        """Stack the views ``(3, h, w)`` of every image into ``(B, 3·S, h, w)``.

        The memory format is channels last, the fastest for convolutions in lower precision. Every pixel is copied once.
        """
        first = views[0][0]
        shape = (len(views), 3 * len(views[0]), *first.shape[1:])
        images = torch.empty(shape, dtype=first.dtype, device=first.device, memory_format=torch.channels_last)
        for image, stacked in zip(images, views, strict=True):
            for index, view in enumerate(stacked):
                image[3 * index : 3 * index + 3] = view
        return images

    def _crop(self, tensors: BlockTensors, index: int, row: int, column: int) -> torch.Tensor:
        """Return one view of the patch of one target."""
        tiles = tensors.tiles[index]
        if tiles is not None:
            return tensors.views[index][tiles[row, column]]
        step = self.steps[index] if self.steps is not None else 0
        return tensors.views[index][:, row * step : row * step + self.size, column * step : column * step + self.size]

    def _crop_map(self, context: torch.Tensor, height: int, row: int, column: int) -> torch.Tensor:
        """Return one target's part of a context map over all targets, which together are ``height`` pixels high."""
        top, left = row * self.grid.stride, column * self.grid.stride
        side = self.grid.target
        return _crop_map(context, height // context.shape[2], slice(top, top + side), slice(left, left + side))

    def _call(self, function: Callable, image: torch.Tensor, *arguments: Any) -> torch.Tensor:
        with autocast(image.device, self._dtype):
            return function(image.contiguous(memory_format=torch.channels_last), *arguments).float()

    def _call_context(self, coarse: Sequence[torch.Tensor], height: int, width: int) -> list[torch.Tensor]:
        if not coarse:
            return []
        with autocast(coarse[0].device, self._dtype):
            views = [view.contiguous(memory_format=torch.channels_last) for view in coarse]
            return self._encode_context(views, height, width)

    def _check(self, network: Any, fields_of_view: Sequence[FieldOfView]) -> None:
        # A network that was written for the previous version has them as views.
        former = getattr(network, "views", None)
        known = getattr(network, "mpp_ratios", former if isinstance(former, tuple) else None)
        seen = tuple(view.mpp / fields_of_view[0].mpp for view in fields_of_view)
        if known is not None and len(known) > 1 and not np.allclose(known, seen if len(seen) == len(known) else np.inf):
            raise ValueError(
                f"{type(network).__name__} reads views at {known} times the finest one's µm/px, fields_of_view are at "
                f"{seen}. Set fields_of_view accordingly"
            )
        alone = len(fields_of_view) == 1
        if self.options.context == "per_patch" or (self.options.context == "shared" and alone):
            return
        if self.steps is None:
            raise ValueError(
                "neighbouring targets are not whole pixels of every view apart, so they share nothing: set context to "
                '"per_patch"'
            )
        alignment, name = getattr(network, "alignment", None), type(network).__name__
        if self._tiled and self.options.context == "shared" and getattr(network, "position_independent_context", False):
            return
        if any(view.anchor == "tile" for view in fields_of_view):
            raise ValueError(
                f'{name} cannot be run with context="{self.options.context}" on views that are anchored to tiles. Set '
                'context to "per_patch"'
            )
        if alignment is None or len(known or ()) != len(fields_of_view):
            raise ValueError(
                f'{name} cannot be run with context="{self.options.context}": its branches do not read views of their '
                'own. Set context to "per_patch"'
            )
        if self.options.context == "shared" and (self.size != self.grid.target or self.size % network.size_divisor):
            raise ValueError(
                f'with context="shared" the finest view is the target, a multiple of {network.size_divisor} pixels a '
                f"side, not {self.size} and the target {self.grid.target}"
            )
        if self.grid.stride % alignment or self.grid.target % alignment:
            raise ValueError(
                f"{name} pools over {alignment} pixels; targets of {self.grid.target} pixels every {self.grid.stride} "
                f'do not fall on multiples of it. Choose another overlap, or set context to "per_patch"'
            )


def _tiles_of(tensors: BlockTensors, at: tuple[int, int]) -> tuple[int, ...]:
    """Return the number of a target's tile in each coarse view."""
    return tuple(int(which[at]) for which in tensors.tiles[1:] if which is not None)


def _crop_map(context: torch.Tensor, stride: int, rows: slice, columns: slice) -> torch.Tensor:
    """Crop a context map whose pixels are ``stride`` pixels of the finest view to a rectangle of that view."""
    return context[:, :, rows.start // stride : rows.stop // stride, columns.start // stride : columns.stop // stride]


def _each(
    inputs: Sequence[BlockTensors], sources: Sequence[np.ndarray]
) -> Iterator[tuple[BlockTensors, tuple[int, int], tuple[int, int]]]:
    """Yield every selected target: its input, and its row and column before and after the transform."""
    for tensors, source in zip(inputs, sources, strict=True):
        for row, column in np.argwhere(tensors.mask).tolist():
            yield tensors, tuple(source[row, column].tolist()), (row, column)


def _source_index(tensors: BlockTensors, k: int, flipped: bool) -> np.ndarray:
    """Return row and column that each target of the transformed input had before, ``(rows, columns, 2)``."""
    rotated = np.rot90(np.moveaxis(np.indices(tensors.mask.shape), 0, -1), k, (0, 1))
    return rotated[:, ::-1] if flipped else rotated


def _transform(tensors: BlockTensors, k: int, flipped: bool) -> BlockTensors:
    """Rotate an input by ``k`` quarter turns to the left, then flip it left to right if ``flipped``."""
    mask = np.rot90(tensors.mask, k)
    views = [torch.rot90(view, k, (-2, -1)) for view in tensors.views]
    tiles = [None if which is None else np.rot90(which, k) for which in tensors.tiles]
    at_grid_edge = tensors.at_grid_edge
    for _ in range(k % 4):
        # A quarter turn to the left brings the right side to the top.
        at_grid_edge = np.stack([at_grid_edge[1, ::-1], at_grid_edge[0]])
    if not flipped:
        return BlockTensors(tensors.row, tensors.column, mask, views, tiles, at_grid_edge)
    at_grid_edge = np.stack([at_grid_edge[0], at_grid_edge[1, ::-1]])
    views, tiles = [view.flip(-1) for view in views], [None if which is None else which[:, ::-1] for which in tiles]
    return BlockTensors(tensors.row, tensors.column, mask[:, ::-1], views, tiles, at_grid_edge)


def _inverse_transform(logits: torch.Tensor, k: int, flipped: bool) -> torch.Tensor:
    return torch.rot90(logits.flip(3) if flipped else logits, -k, (2, 3))


def _batches(jobs: list, size: int) -> Iterator[list]:
    for first in range(0, len(jobs), size):
        yield jobs[first : first + size]


def _compiled(function: Any, options: InferenceOptions) -> Any:
    if not options.compile or function is None:
        return function
    compiled = torch.compile(function)

    def one_at_a_time(*arguments: Any) -> Any:
        # PyTorch raises if a thread calls any compiled function while another thread compiles.
        with _COMPILING:
            return compiled(*arguments)

    return one_at_a_time
