"""Building blocks that several networks share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import nn

from .pointwise import PointwiseStrided, PointwiseTransposed

# Receptive radius of an output pixel of these encoders and decoders, in pixels of the coarsest level: at most 123 input
# pixels with four poolings, 59 with three, 27 with two.
RECEPTIVE_RADIUS = 8
# Makes a module of some input channels and some output channels.
MakeModule = Callable[[int, int], nn.Module]


def conv(in_channels: int, out_channels: int, kernel_size: int = 3, bias: bool = True) -> nn.Conv2d:
    """Return a convolution that keeps height and width."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)


def conv_block(in_channels: int, out_channels: int, mid_channels: int | None = None) -> nn.Sequential:
    """Return two 3 x 3 convolutions with ReLUs: CONV_BLOCK of Ho et al. 2021.

    Args:
        in_channels, out_channels: channels of the block.
        mid_channels: channels between the convolutions; ``out_channels`` by default.
    """
    middle = mid_channels or out_channels
    return nn.Sequential(
        conv(in_channels, middle), nn.ReLU(inplace=True), conv(middle, out_channels), nn.ReLU(inplace=True)
    )


def conv_bn_relu(
    in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, dilation: int = 1, bias: bool = True
) -> nn.Sequential:
    """Return a convolution that divides height and width by ``stride``, batch normalisation and ReLU."""
    if kernel_size == 1 and stride > 1:
        convolution: nn.Conv2d = PointwiseStrided(in_channels, out_channels, stride, bias)
    else:
        padding = dilation * (kernel_size // 2)
        convolution = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, bias=bias)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


def upsample(
    in_channels: int, out_channels: int, kernel_size: int = 3, factor: int = 2, batch_norm: bool = False
) -> nn.Sequential:
    """Return a transposed convolution that multiplies height and width by ``factor``, and ReLU.

    The default is CONV_TR_2 of Ho et al. 2021, whose published parameter counts need kernels of 3 x 3, not 2 x 2.

    Args:
        in_channels, out_channels: channels of the convolution.
        kernel_size: pixels a side of the kernel; 1 only with a factor of 2.
        factor: stride of the convolution.
        batch_norm: whether batch normalisation precedes the ReLU.
    """
    if kernel_size == 1:
        convolution: nn.ConvTranspose2d = PointwiseTransposed(in_channels, out_channels)
    else:
        padding = (kernel_size - factor + 1) // 2
        outer = factor + 2 * padding - kernel_size
        convolution = nn.ConvTranspose2d(in_channels, out_channels, kernel_size, factor, padding, outer)
    norm = [nn.BatchNorm2d(out_channels)] if batch_norm else []
    return nn.Sequential(convolution, *norm, nn.ReLU(inplace=True))


def head(in_channels: int, channels: int, out_channels: int) -> nn.Sequential:
    """Return a 3 x 3 convolution, ReLU and a 1 x 1 convolution: CONV_FINAL of Ho et al. 2021."""
    return nn.Sequential(conv(in_channels, channels), nn.ReLU(inplace=True), nn.Conv2d(channels, out_channels, 1))


class Encoder(nn.Module):
    """Blocks with 2 x 2 max-pooling between them.

    Args:
        in_channels: channels of the image.
        channels: widths of the levels, finest first.
        block: makes the block of a level.

    Shape:
        ``(B, i, H, W)`` -> one map per level, finest first: ``(B, c_k, H / 2^k, W / 2^k)``.
    """

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
    """Per level, deepest first: upsampling, concatenation with the encoder's map (which comes first), a block.

    Args:
        channels: encoder widths, finest first.
        extra: channels, finest level first, of further maps that are concatenated before the upsampling to that level;
            none by default.
        block: makes the block that follows the concatenation.
        up: makes the layer that upsamples by 2.
    """

    def __init__(
        self,
        channels: Sequence[int],
        extra: Sequence[int] | None = None,
        block: MakeModule = conv_block,
        up: MakeModule = upsample,
    ) -> None:
        super().__init__()
        levels = range(len(channels) - 2, -1, -1)
        more = extra or [0] * len(levels)
        self.ups = nn.ModuleList(up(channels[k + 1] + more[k], channels[k]) for k in levels)
        self.blocks = nn.ModuleList(block(2 * channels[k], channels[k]) for k in levels)

    def forward(
        self, features: list[torch.Tensor], extra: list[list[torch.Tensor]] | None = None
    ) -> list[torch.Tensor]:
        """Return the map after each level, deepest first, the last at full resolution.

        Args:
            features: the encoder's maps, finest first.
            extra: further maps of each level, deepest first.
        """
        current = features[-1]
        outputs: list[torch.Tensor] = []
        for index, (up, block) in enumerate(zip(self.ups, self.blocks)):
            if extra is not None:
                current = torch.cat([current] + extra[index], dim=1)
            current = block(torch.cat([features[len(features) - 2 - index], up(current)], dim=1))
            outputs.append(current)
        return outputs
