"""What all networks share."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import nn


class SegmentationNetwork(nn.Module):
    """A network from stacked fields of view to logits of the target.

    ``forward(image: (B, 3·S, H, W) in [0, 1]) -> (B, C, h, w)``, finest view first.

    Attributes:
        views: µm/px of each view its branches read, as multiples of the finest one's.
        divisor: height and width of the input must be multiples of it.
    """

    # No annotations: TorchScript would try to read them as attribute types.
    views = cast(tuple[float, ...], (1,))
    divisor = 1

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


def center_crop(features: torch.Tensor, ratio: int) -> torch.Tensor:
    """The centre 1/``ratio`` of height and width."""
    height, width = features.shape[2] // ratio, features.shape[3] // ratio
    top, left = (features.shape[2] - height) // 2, (features.shape[3] - width) // 2
    return features[:, :, top : top + height, left : left + width]
