"""Runs a network over a window: target by target, with shared context, or all at once.

Everything here takes windows whose views are tensors on the network's device, ``(3, h, w)`` each or ``(T, 3, h, w)``
tiles, and yields logits with the places they belong to.
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
# Symmetries of the square: quarter rotations, then whether it is flipped left to right.
_GROUPS = {
    "none": [(0, False)],
    "flips": [(0, False), (2, False), (0, True), (2, True)],
    "all": [(rotations, flipped) for flipped in (False, True) for rotations in range(4)],
}


@dataclass(frozen=True)
class PatchLogits:
    """Logits of some targets: ``(B, C, h, w)``, and where each lies in target pixels of its block: ``(top, left)``.

    Attributes:
        targets: how many targets they are; more than there are places where one place holds several.
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
    """Predicts the targets of windows.

    Args:
        network: in evaluation mode, on the device of the windows.
        grid: the grid.
        fields_of_view: what the network sees, finest first.
        target: what it predicts.
        steps: pixels of each view from one target to the next, or None; see :class:`BlockReader`.
        options: how.

    Raises:
        ValueError: the network, the fields of view and the options do not go together; says why and what does.
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
        """Pixels of each view around the targets that a window needs; None: as many as a patch has."""
        if options.context != "seamless" or not getattr(network, "receptive_margin", 0):
            return None
        ratios = [max(1, round(view.mpp / target.mpp)) for view in fields_of_view]
        return [network.receptive_margin // ratio + (network.receptive_margin if ratio > 1 else 0) for ratio in ratios]

    @property
    def passes(self) -> int:
        """Return how often every target is predicted: once per symmetry."""
        return len(_GROUPS[self.options.symmetries])

    def __call__(self, windows: Sequence[BlockTensors]) -> Iterator[PatchLogits]:
        """Logits of all selected targets, once per symmetry."""
        for rotations, flipped in _GROUPS[self.options.symmetries]:
            moved = [_transform(window, rotations, flipped) for window in windows]
            for found in self._run(moved, [_numbers(window, rotations, flipped) for window in windows]):
                yield PatchLogits(found.places, _inverse_transform(found.logits, rotations, flipped), found.targets)

    def _per_patch(self, windows: Sequence[BlockTensors], numbers: Sequence[np.ndarray]) -> Iterator[PatchLogits]:
        jobs = [(window, place, self._place(window, number)) for window, number, place in _each(windows, numbers)]
        for batch in _batches(jobs, self.options.batch_size):
            every = range(len(windows[0].views))
            patches = self._images([[self._cut(window, view, *at) for view in every] for window, at, _ in batch])
            yield self._of_targets([place for _, _, place in batch], self._call(self._forward, patches))

    def _shared(self, windows: Sequence[BlockTensors], numbers: Sequence[np.ndarray]) -> Iterator[PatchLogits]:
        for window, number in zip(windows, numbers, strict=True):
            height, width = self._extent(window)
            context = self._call_context([view[None] for view in window.views[1:]], height, width)
            jobs = [(place, self._place(window, at)) for _, at, place in _each([window], [number])]
            for batch in _batches(jobs, self.options.batch_size):
                finest = self._images([[self._cut(window, 0, *place)] for place, _ in batch])
                cut = [torch.cat([self._cut_map(part, height, *place) for place, _ in batch]) for part in context]
                logits = self._call(self._forward_with_context, finest, cut)
                yield self._of_targets([place for _, place in batch], logits)

    def _shared_tiles(self, windows: Sequence[BlockTensors], numbers: Sequence[np.ndarray]) -> Iterator[PatchLogits]:
        for window, number in zip(windows, numbers, strict=True):
            jobs = [
                (_tiles_of(window, at), at, self._place(window, before)) for _, before, at in _each([window], [number])
            ]
            distinct = list(dict.fromkeys(tiles for tiles, _, _ in jobs))
            context = self._encoded_tiles(window, distinct)
            for batch in _batches(jobs, self.options.batch_size):
                finest = self._images([[self._cut(window, 0, *at)] for _, at, _ in batch])
                which = [distinct.index(tiles) for tiles, _, _ in batch]
                logits = self._call(self._forward_with_context, finest, [part[which] for part in context])
                yield self._of_targets([place for _, _, place in batch], logits)

    def _encoded_tiles(self, window: BlockTensors, distinct: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
        """What tiles of all coarse views, one set after the other, give every target in them."""
        encoded = []
        for batch in _batches(list(distinct), self.options.batch_size):
            views = [view[list(which)] for view, which in zip(window.views[1:], zip(*batch, strict=True), strict=True)]
            encoded.append(self._call_context(views, self.size, self.size))
        return [torch.cat(parts) for parts in zip(*encoded, strict=True)]

    def _seamless(self, windows: Sequence[BlockTensors], numbers: Sequence[np.ndarray]) -> Iterator[PatchLogits]:
        for window in windows:
            finest = window.views[0]
            context = self._call_context([view[None] for view in window.views[1:]], *finest.shape[1:])
            height, width = self._extent(window)
            (rows, top), (columns, left) = (
                self._seen(side, extent, at_grid_edge)
                for side, extent, at_grid_edge in zip(
                    finest.shape[1:], (height, width), window.at_grid_edge, strict=True
                )
            )
            cut = [_part(part, finest.shape[1] // part.shape[2], rows, columns) for part in context]
            logits = self._call(self._forward_with_context, finest[None, :, rows, columns], cut)
            place = (window.row * self.grid.stride, window.column * self.grid.stride)
            predicted = logits[:, :, top : top + height, left : left + width]
            yield PatchLogits([place], predicted, int(window.mask.sum()))

    def _seen(self, side: int, extent: int, at_grid_edge: np.ndarray) -> tuple[slice, int]:
        """What the finest branch sees of a window's ``side`` pixels, ``extent`` of which are targets in the middle,
        and where the targets begin in that.

        A network whose finest view is the target was never shown there what lies outside a slide: where the grid
        at_grid_edge, the branch sees a patch's border, as it does patch by patch, instead of black.
        """
        margin = (side - extent) // 2
        before, after = (0 if end and self.size == self.grid.target else margin for end in at_grid_edge)
        return slice(margin - before, margin + extent + after), before

    def _of_targets(self, places: list[tuple[int, int]], logits: torch.Tensor) -> PatchLogits:
        side = self.grid.target
        if logits.shape[2:] != (side, side):
            raise ValueError(
                f"the network gives {logits.shape[2]} x {logits.shape[3]} pixels, the target has {side} x {side}. Set "
                "target to what the network predicts"
            )
        return PatchLogits(places, logits, len(places))

    def _place(self, window: BlockTensors, number: tuple[int, int]) -> tuple[int, int]:
        """Where a target of a window lies in its block, in target pixels."""
        return (window.row + number[0]) * self.grid.stride, (window.column + number[1]) * self.grid.stride

    def _extent(self, window: BlockTensors) -> tuple[int, int]:
        """Height and width of a window's targets together, in target pixels."""
        rows, columns = window.mask.shape
        stride, target = self.grid.stride, self.grid.target
        return (rows - 1) * stride + target, (columns - 1) * stride + target

    @staticmethod
    def _images(views: Sequence[Sequence[torch.Tensor]]) -> torch.Tensor:
        """Per image its views ``(3, h, w)`` -> ``(B, 3·S, h, w)``, laid out channels last, which the lower precisions'
        convolutions are fastest in; every pixel is copied once."""
        first = views[0][0]
        shape = (len(views), 3 * len(views[0]), *first.shape[1:])
        images = torch.empty(shape, dtype=first.dtype, device=first.device, memory_format=torch.channels_last)
        for image, stacked in zip(images, views, strict=True):
            for index, view in enumerate(stacked):
                image[3 * index : 3 * index + 3] = view
        return images

    def _cut(self, window: BlockTensors, index: int, row: int, column: int) -> torch.Tensor:
        tiles = window.tiles[index]
        if tiles is not None:
            return window.views[index][tiles[row, column]]
        step = self.steps[index] if self.steps is not None else 0
        return window.views[index][:, row * step : row * step + self.size, column * step : column * step + self.size]

    def _cut_map(self, part: torch.Tensor, height: int, row: int, column: int) -> torch.Tensor:
        """A target's piece of a map over all targets of ``height`` pixels."""
        top, left = row * self.grid.stride, column * self.grid.stride
        side = self.grid.target
        return _part(part, height // part.shape[2], slice(top, top + side), slice(left, left + side))

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
        known = getattr(network, "mpp_ratios", None)
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


def _tiles_of(window: BlockTensors, at: tuple[int, int]) -> tuple[int, ...]:
    """A target's tile of each coarse view."""
    return tuple(int(which[at]) for which in window.tiles[1:] if which is not None)


def _part(part: torch.Tensor, pixels: int, rows: slice, columns: slice) -> torch.Tensor:
    """The piece over some finest pixels of a map ``pixels`` of which are one of its own."""
    return part[:, :, rows.start // pixels : rows.stop // pixels, columns.start // pixels : columns.stop // pixels]


def _each(
    windows: Sequence[BlockTensors], numbers: Sequence[np.ndarray]
) -> Iterator[tuple[BlockTensors, tuple[int, int], tuple[int, int]]]:
    """Yield every selected target: its input, and its place before and after the input was transformed."""
    for window, number in zip(windows, numbers, strict=True):
        for row, column in np.argwhere(window.mask).tolist():
            yield window, tuple(number[row, column].tolist()), (row, column)


def _numbers(window: BlockTensors, rotations: int, flipped: bool) -> np.ndarray:
    """For every target of the turned window, its row and column before."""
    turned = np.rot90(np.moveaxis(np.indices(window.mask.shape), 0, -1), rotations, (0, 1))
    return turned[:, ::-1] if flipped else turned


def _transform(window: BlockTensors, rotations: int, flipped: bool) -> BlockTensors:
    mask = np.rot90(window.mask, rotations)
    views = [torch.rot90(view, rotations, (-2, -1)) for view in window.views]
    tiles = [None if which is None else np.rot90(which, rotations) for which in window.tiles]
    at_grid_edge = window.at_grid_edge
    for _ in range(rotations % 4):
        # A quarter turn to the left: the right side comes to the top.
        at_grid_edge = np.stack([at_grid_edge[1, ::-1], at_grid_edge[0]])
    if not flipped:
        return BlockTensors(window.row, window.column, mask, views, tiles, at_grid_edge)
    at_grid_edge = np.stack([at_grid_edge[0], at_grid_edge[1, ::-1]])
    views, tiles = [view.flip(-1) for view in views], [None if which is None else which[:, ::-1] for which in tiles]
    return BlockTensors(window.row, window.column, mask[:, ::-1], views, tiles, at_grid_edge)


def _inverse_transform(logits: torch.Tensor, rotations: int, flipped: bool) -> torch.Tensor:
    return torch.rot90(logits.flip(3) if flipped else logits, -rotations, (2, 3))


def _batches(jobs: list, size: int) -> Iterator[list]:
    for first in range(0, len(jobs), size):
        yield jobs[first : first + size]


def _compiled(function: Any, options: InferenceOptions) -> Any:
    if not options.compile or function is None:
        return function
    compiled = torch.compile(function)

    def one_at_a_time(*arguments: Any) -> Any:
        # While one thread compiles, another one's call of any compiled function is an error of PyTorch's.
        with _COMPILING:
            return compiled(*arguments)

    return one_at_a_time
