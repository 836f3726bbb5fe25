"""The base class of all networks."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import nn


class SegmentationNetwork(nn.Module):
    """A network from stacked fields of view to logits of the target.

    ``forward(image: (B, 3·S, H, W) in [0, 1]) -> (B, C, h, w)``, finest view first.

    A network may be run over a whole block of targets at once, if its branches read views of their own: what the
    coarse branches give (:meth:`encode_context`) then serves all targets of the block, and
    :meth:`forward_with_context` is run per target (sharing) or on the whole block (seamless).

    Attributes:
        views: µm/px of each view its branches read, as multiples of the finest one's.
        size_divisor: height and width of the input must be multiples of it.
        alignment: finest pixels by which a place can move so that every view's pooling falls on the same pixels. None
            if the network cannot be run over blocks.
        receptive_margin: pixels of each view beyond which nothing reaches an output pixel. A multiple of every pooling.
        position_independent_context: whether :meth:`encode_context` is the same for every target seen with the same
            coarse views, since it says nothing of places in them.
    """

    # No annotations: TorchScript would try to read them as attribute types.
    views = cast(tuple[float, ...], (1,))
    size_divisor = 1
    alignment = cast(int | None, None)
    receptive_margin = 0
    position_independent_context = False

    def encode_context(self, coarse: list[torch.Tensor], height: int, width: int) -> list[torch.Tensor]:
        """Return what the coarse branches contribute to ``height`` x ``width`` finest pixels in the middle of
        their views.

        Args:
            coarse: one ``(B, 3, h, w)`` per coarse view, in the order of ``views``, all around one centre.
            height, width: in finest pixels.

        Returns:
            maps that cover just these pixels. Each map's stride, a power of two, follows from its shape.
        """
        return []

    def forward_with_context(self, finest: torch.Tensor, context: list[torch.Tensor]) -> torch.Tensor:
        """``(B, 3, H, W)`` of the finest view and the maps of :meth:`encode_context` for the same pixels -> logits
        ``(B, C, H, W)``."""
        raise NotImplementedError

    def check_input(self, image: torch.Tensor, channels: int) -> None:
        """Raise ValueError, naming what fits, for an input that this network cannot take."""
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
        """Kaiming-normal weights (He et al. 2015), zero biases. PyTorch's default lets the deep paths of several
        encoders die.

        torch's ``kaiming_normal_`` takes a transposed convolution's output channels for its inputs and leaves its
        stride out: each of these layers would then halve the deep paths' part in the output, and a narrow U-Net
        never learns from what is far away.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=(2 / _fan_in(module)) ** 0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def _fan_in(module: nn.Conv2d | nn.ConvTranspose2d) -> float:
    """Return how many inputs an output value has: the mean over positions for a transposed convolution."""
    taps = math.prod(module.kernel_size)
    if isinstance(module, nn.ConvTranspose2d):
        return module.in_channels * taps / math.prod(module.stride)
    return module.in_channels * taps


def center_crop(features: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return the central ``height`` x ``width`` pixels."""
    top, left = (features.shape[2] - height) // 2, (features.shape[3] - width) // 2
    return features[:, :, top : top + height, left : left + width]
