"""The base class of all networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import nn


class SegmentationNetwork(nn.Module):
    """A network from stacked fields of view to logits of the target.

    Networks whose branches read views of their own can run over a block of targets. The coarse branches run once per
    block (:meth:`encode_context`); their maps serve every target in it. :meth:`forward_with_context` runs once per
    target (``context="shared"``) or once over the block (``"seamless"``).

    A subclass implements :meth:`forward_with_context`, and :meth:`encode_context` if it has coarse branches. One that
    cannot be divided like this overrides ``forward`` instead.

    Args:
        mpp_ratios: µm/px of each view that its branches read, in multiples of the finest view's.

    Attributes:
        mpp_ratios: see above.
        in_channels: input channels, 3 per view.
        size_divisor: number that must divide the input's height and width.
        alignment: shift in finest pixels that moves the poolings of every view by whole pixels. None if the network
            cannot run over blocks.
        receptive_margin: pixels of each view beyond which nothing affects an output pixel. A multiple of every
            pooling.
        position_independent_context: whether :meth:`encode_context` returns the same maps for every target that sees
            the same coarse views, because they hold no positions.

    Shape:
        image ``(B, 3·S, H, W)`` in [0, 1], finest view first -> logits ``(B, C, h, w)``.
    """

    # No annotations: TorchScript would try to read them as attribute types.
    size_divisor = 1
    alignment = cast(int | None, None)
    receptive_margin = 0
    position_independent_context = False

    def __init__(self, mpp_ratios: Sequence[float] = (1,)) -> None:
        super().__init__()
        self.mpp_ratios = tuple(mpp_ratios)
        self.in_channels = 3 * len(self.mpp_ratios)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.check_input(image)
        coarse = [image[:, first : first + 3] for first in range(3, self.in_channels, 3)]
        context = self.encode_context(coarse, image.shape[2], image.shape[3])
        # A slice of a single view would only add a copy to the backward pass.
        finest = image if self.in_channels == 3 else image[:, 0:3]
        return self.forward_with_context(finest, context)

    def encode_context(self, coarse: list[torch.Tensor], height: int, width: int) -> list[torch.Tensor]:
        """Return the coarse branches' maps of the central ``height`` x ``width`` finest pixels.

        Args:
            coarse: one ``(B, 3, h, w)`` per coarse view, in the order of ``mpp_ratios``, all around one centre.
            height, width: extent of the maps in finest pixels.

        Returns:
            maps that cover these pixels exactly. Each map's stride, a power of two, follows from its shape.
        """
        return []

    def forward_with_context(self, finest: torch.Tensor, context: list[torch.Tensor]) -> torch.Tensor:
        """Return the logits ``(B, C, H, W)`` of the finest view.

        Args:
            finest: ``(B, 3, H, W)``.
            context: maps of :meth:`encode_context` for the same pixels.
        """
        raise NotImplementedError

    def check_input(self, image: torch.Tensor) -> None:
        """Raise ValueError, with the shapes that fit, for an input that this network does not take."""
        channels = self.in_channels
        if image.dim() != 4 or image.shape[1] != channels:
            raise ValueError(
                f"image has shape {list(image.shape)}; this network takes (batch, {channels}, height, width): "
                f"{channels // 3} field(s) of view of 3 channels, finest first. Set fields_of_view accordingly"
            )
        if image.shape[2] % self.size_divisor != 0 or image.shape[3] % self.size_divisor != 0:
            raise ValueError(
                f"image is {image.shape[2]} x {image.shape[3]} pixels; height and width must be multiples of "
                f"{self.size_divisor}"
            )

    def initialise(self) -> None:
        """Draw Kaiming-normal weights (He et al. 2015) and set biases to zero.

        With PyTorch's default, the deep paths of several encoders die.

        torch's ``kaiming_normal_`` is not used: for a transposed convolution it takes the output channels for the
        inputs and ignores the stride. Each such layer would halve the deep paths' share of the output, and a narrow
        U-Net would never learn from distant pixels.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=(2 / _fan_in(module)) ** 0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def _fan_in(module: nn.Conv2d | nn.ConvTranspose2d) -> float:
    """Return the number of inputs of an output value; for a transposed convolution, the mean over positions."""
    taps = math.prod(module.kernel_size)
    if isinstance(module, nn.ConvTranspose2d):
        return module.in_channels * taps / math.prod(module.stride)
    return module.in_channels * taps


def center_crop(features: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return the central ``height`` x ``width`` pixels of ``(B, C, H, W)``."""
    top, left = (features.shape[2] - height) // 2, (features.shape[3] - width) // 2
    return features[:, :, top : top + height, left : left + width]
