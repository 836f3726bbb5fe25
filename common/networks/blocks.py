"""Building blocks of the U-Net family of Ho et al. 2021."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import nn

# How far an output pixel of an encoder and decoder of these blocks sees, in pixels of its coarsest level: with four
# poolings 123 pixels, with three 59, with two 27.
RECEPTIVE_RADIUS = 8
# Makes a module of so many channels in and so many out.
MakeModule = Callable[[int, int], nn.Module]


def conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """3 x 3 convolution with bias that keeps the size."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


def conv_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """CONV_BLOCK: twice 3 x 3 convolution and ReLU."""
    return nn.Sequential(
        conv3x3(in_channels, out_channels),
        nn.ReLU(inplace=True),
        conv3x3(out_channels, out_channels),
        nn.ReLU(inplace=True),
    )


def upsample2(in_channels: int, out_channels: int) -> nn.Sequential:
    """CONV_TR_2: transposed 3 x 3 convolution of stride 2 and ReLU. (The published parameter counts need 3 x 3, not
    2 x 2.)"""
    return nn.Sequential(
        nn.ConvTranspose2d(in_channels, out_channels, 3, stride=2, padding=1, output_padding=1), nn.ReLU(inplace=True)
    )


def head(in_channels: int, channels: int, out_channels: int) -> nn.Sequential:
    """CONV_FINAL: 3 x 3 convolution, ReLU, 1 x 1 convolution."""
    return nn.Sequential(conv3x3(in_channels, channels), nn.ReLU(inplace=True), nn.Conv2d(channels, out_channels, 1))


class Encoder(nn.Module):
    """Blocks of ``channels`` with 2 x 2 max-pooling between: ``(B, i, H, W)`` -> one map per level, finest first."""

    def __init__(self, in_channels: int, channels: Sequence[int], block: MakeModule = conv_block) -> None:
        super().__init__()
        widths = [in_channels, *channels]
        self.blocks = nn.ModuleList(block(i, o) for i, o in pairwise(widths))
        self.pool = nn.MaxPool2d(2)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        features: list[torch.Tensor] = []
        for index, block in enumerate(self.blocks):
            image = block(image if index == 0 else self.pool(image))
            features.append(image)
        return features


class Decoder(nn.Module):
    """Per level, deepest first: upsample, concatenate with the encoder's map (skip first), block.

    Args:
        channels: encoder widths, finest first.
        extra: channels, finest level first, of other maps that enter the upsampling to that level besides the
            decoder's own.
        block, up: from how many to how many channels -> what follows the concatenation, and what upsamples by 2.
    """

    def __init__(
        self,
        channels: Sequence[int],
        extra: Sequence[int] = (0, 0, 0, 0),
        block: MakeModule = conv_block,
        up: MakeModule = upsample2,
    ) -> None:
        super().__init__()
        levels = range(len(channels) - 2, -1, -1)
        self.ups = nn.ModuleList(up(channels[k + 1] + extra[k], channels[k]) for k in levels)
        self.blocks = nn.ModuleList(block(2 * channels[k], channels[k]) for k in levels)

    def forward(self, features: list[torch.Tensor], extras: list[list[torch.Tensor]]) -> list[torch.Tensor]:
        """``features`` as the encoder gives them, ``extras`` one list per level, deepest first -> maps after
        each level, deepest first, the last at full resolution."""
        current = features[-1]
        outputs: list[torch.Tensor] = []
        for index, (up, block) in enumerate(zip(self.ups, self.blocks)):
            upsampled = up(torch.cat([current] + extras[index], dim=1))
            current = block(torch.cat([features[len(features) - 2 - index], upsampled], dim=1))
            outputs.append(current)
        return outputs
