"""What all networks share."""

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
        divisor: height and width of the input must be multiples of it.
        period: finest pixels by which a place can move so that every view's pooling falls on the same pixels; None:
            the network cannot be run over blocks.
        margin: pixels of each view beyond which nothing reaches an output pixel; a multiple of every pooling.
        context_as_a_whole: what :meth:`encode_context` gives says nothing of places in the coarse views: it is the same
            for every target that is seen with them.
    """

    # No annotations: TorchScript would try to read them as attribute types.
    views = cast(tuple[float, ...], (1,))
    divisor = 1
    period = cast(int | None, None)
    margin = 0
    context_as_a_whole = False

    def encode_context(self, coarse: list[torch.Tensor], height: int, width: int) -> list[torch.Tensor]:
        """What the coarse branches contribute to ``height`` x ``width`` finest pixels in the middle of their views.

        Args:
            coarse: one ``(B, 3, h, w)`` per coarse view, in the order of ``views``, all around one centre.
            height, width: in finest pixels.

        Returns:
            maps that cover just these pixels; how many of them one map pixel is (a power of two) their shapes tell.
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
        if image.shape[2] % self.divisor != 0 or image.shape[3] % self.divisor != 0:
            raise ValueError(
                f"image is {image.shape[2]} x {image.shape[3]} pixels; height and width must be multiples of "
                f"{self.divisor}"
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
    """How many inputs an output value has; the mean over positions for a transposed convolution."""
    taps = math.prod(module.kernel_size)
    if isinstance(module, nn.ConvTranspose2d):
        return module.in_channels * taps / math.prod(module.stride)
    return module.in_channels * taps


def center_crop(features: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The central ``height`` x ``width``."""
    top, left = (features.shape[2] - height) // 2, (features.shape[3] - width) // 2
    return features[:, :, top : top + height, left : left + width]
