"""1 x 1 convolutions with a stride that train on the CPU.

The backward pass of torch 2.13's own writes beyond its memory on the CPU if maps are laid out channels last, which ends
the process. These compute the same from convolutions without a stride.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class PointwiseStrided(nn.Conv2d):
    """1 x 1 convolution with a stride: ``(B, i, H, W)`` -> ``(B, o, ⌈H / stride⌉, ⌈W / stride⌉)``."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, stride, bias=bias)
        self.step = stride

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(features[:, :, :: self.step, :: self.step], self.weight, self.bias)


class PointwiseTransposed(nn.ConvTranspose2d):
    """1 x 1 transposed convolution of stride 2: ``(B, i, H, W)`` -> ``(B, o, 2H, 2W)``.

    It fills one pixel in four. The others hold its bias.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1, 2, output_padding=1)

    def forward(self, features: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        filled = functional.conv2d(features, self.weight.transpose(0, 1))
        batch, channels, height, width = filled.shape
        spread = functional.pad(filled[:, :, :, None, :, None], [0, 1, 0, 0, 0, 1])
        spread = spread.reshape(batch, channels, 2 * height, 2 * width)
        bias = self.bias
        assert bias is not None
        return spread + bias[None, :, None, None]
