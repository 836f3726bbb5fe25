"""Combine the predictions of a block's targets into its maps, on their device."""

from __future__ import annotations

import math

import numpy as np
import torch
from monai.data.utils import compute_importance_map

from ..classes import ClassScheme
from ..maps.grid import Block, TileGrid
from .options import InferenceOptions
from .prediction import PatchLogits

MAPS = ("labels", "probabilities", "entropy")


class Stitcher:
    """The logits of one block on their way to its maps.

    Without overlap and tta, a pixel has one prediction and takes its label. Otherwise it takes the label of the
    mean class probabilities. Where targets overlap, they are weighted by a Gaussian of the distance to their centre.
    The weights are in the denominator too, so a constant stays constant up to the slide's border.

    Args:
        grid: the slide's tile grid.
        block: the block.
        mask: ``(rows, columns)`` bool: which targets are predicted; the pixels of the others stay 0.
        scheme: the classes.
        options: how the network is run.
        maps: which of :data:`MAPS` to make.
        device: the device to collect on.
    """

    def __init__(
        self,
        grid: TileGrid,
        block: Block,
        mask: np.ndarray,
        scheme: ClassScheme,
        options: InferenceOptions,
        maps: tuple[str, ...],
        device: torch.device,
    ) -> None:
        self.grid, self.block, self.mask = grid, block, mask
        self.scheme, self.options, self.maps, self.device = scheme, options, maps, device
        shape = [(count - 1) * grid.stride + grid.target for count in (block.rows, block.columns)]
        self._labels = None if options.blended else torch.zeros(shape, dtype=torch.uint8, device=device)
        self._sums, self._weights = None, None
        if options.blended or set(maps) - {"labels"}:
            self._sums = torch.zeros((len(scheme), *shape), device=device)
            self._weights = torch.zeros(shape, device=device)
        self._total = torch.zeros((), device=device)
        self._importance = torch.ones((grid.target, grid.target), device=device)
        if options.overlap > 0:
            side = (grid.target, grid.target)
            self._importance = compute_importance_map(side, mode="gaussian", sigma_scale=0.125, device=device)

    def add(self, predicted: PatchLogits) -> None:
        """Add the logits of some targets."""
        height, width = predicted.logits.shape[2:]
        self._total += predicted.logits.sum()
        labels = None if self._labels is None else self.scheme.labels_from_logits(predicted.logits)
        probabilities = None if self._sums is None else self.scheme.probabilities(predicted.logits)
        weights = self._importance if (height, width) == self._importance.shape else 1.0
        for number, (top, left) in enumerate(predicted.places):
            at = (slice(top, top + height), slice(left, left + width))
            if labels is not None and self._labels is not None:
                self._labels[at] = labels[number]
            if probabilities is not None and self._sums is not None and self._weights is not None:
                self._sums[:, at[0], at[1]] += weights * probabilities[number]
                self._weights[at] += weights

    def finish(self) -> dict[str, torch.Tensor]:
        """Return the maps over the block's rectangle as uint8.

        Returns:
            ``labels`` ``(h, w)``; ``probabilities`` ``(C, h, w)`` in label order, 255 for 1; ``entropy`` ``(h, w)``,
            255 where all classes are equally probable.

        Raises:
            FloatingPointError: a logit is NaN or infinite, which would pass for a class.
        """
        if not self._total.isfinite():
            raise FloatingPointError(
                f"the network's output is not finite (NaN or infinite) in the target pixels from row {self.block.top}, "
                f"column {self.block.left} of {self.block.height} x {self.block.width}"
            )
        top = self.block.top - self.block.row * self.grid.stride
        left = self.block.left - self.block.column * self.grid.stride
        at = (..., slice(top, top + self.block.height), slice(left, left + self.block.width))
        covered = self._covered()[at]
        found: dict[str, torch.Tensor] = {}
        probabilities = None
        if self._sums is not None and self._weights is not None:
            probabilities = self._sums[at] / self._weights[at].clamp(min=torch.finfo(torch.float32).tiny)
        if self._labels is not None:
            found["labels"] = self._labels[at] * covered
        elif probabilities is not None:
            found["labels"] = self.scheme.labels_from_probabilities(probabilities[None])[0] * covered
        if probabilities is not None and "probabilities" in self.maps:
            found["probabilities"] = _as_bytes(probabilities) * covered
        if probabilities is not None and "entropy" in self.maps:
            entropy = torch.special.entr(probabilities).sum(dim=0) / math.log(max(2, len(self.scheme)))
            found["entropy"] = _as_bytes(entropy) * covered
        return found

    def _covered(self) -> torch.Tensor:
        """Return 1 for the pixels of selected targets that lie wholly on the slide, else 0; uint8."""
        shape = [(count - 1) * self.grid.stride + self.grid.target for count in self.mask.shape]
        covered = np.ones(shape, dtype=np.uint8)
        if not self.mask.all():
            covered[:] = 0
            for row, column in np.argwhere(self.mask) * self.grid.stride:
                covered[row : row + self.grid.target, column : column + self.grid.target] = 1
        bottom = self.grid.covered[0] - self.block.row * self.grid.stride
        right = self.grid.covered[1] - self.block.column * self.grid.stride
        covered[max(0, bottom) :] = 0
        covered[:, max(0, right) :] = 0
        return torch.from_numpy(covered).to(self.device)


def _as_bytes(share: torch.Tensor) -> torch.Tensor:
    return (share * 255).round().clamp(0, 255).to(torch.uint8)
