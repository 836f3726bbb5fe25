"""SegNet as Ho et al. 2021 use it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from ..renamed import renamed_argument
from .base import SegmentationNetwork
from .blocks import RECEPTIVE_RADIUS, conv_block, head
from .unet import WIDTHS


class SegNet(SegmentationNetwork):
    """SegNet with as many layers and channels as U-Net: max-unpooling by the encoder's indices instead of
    concatenation.

    Args:
        out_channels: output channels, channel 0 ("unlabelled") included.
        channels: encoder widths, finest level first; the last is the centre's.

    Shape:
        image ``(B, 3, H, W)`` in [0, 1]; H, W multiples of 16 -> logits ``(B, out_channels, H, W)``.

    Example:
        >>> network = SegNet(out_channels=3, channels=(4, 8, 16))
        >>> network(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 3, 64, 64])

    Source: Ho et al. 2021, section 3; 18,881,543 parameters (Table 2) with ``out_channels=7``.
    """

    @renamed_argument("num_classes", "out_channels", added=1)
    def __init__(self, *, out_channels: int = 7, channels: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.size_divisor = 2 ** (len(channels) - 1)
        self.alignment, self.receptive_margin = self.size_divisor, RECEPTIVE_RADIUS * self.size_divisor
        *levels, centre = channels
        self.encoder = nn.ModuleList(conv_block(i, o) for i, o in pairwise([3, *levels]))
        self.centre = conv_block(levels[-1], levels[-1], centre)
        narrowed = [*levels[-2::-1], levels[0]]
        self.decoder = nn.ModuleList(conv_block(i, o, i) for i, o in zip(levels[::-1], narrowed, strict=True))
        self.head = head(levels[0], levels[0], out_channels)
        self.initialise()

    def forward_with_context(self, finest: torch.Tensor, context: list[torch.Tensor]) -> torch.Tensor:
        features = finest
        indices: list[torch.Tensor] = []
        for block in self.encoder:
            features, index = functional.max_pool2d_with_indices(block(features), [2, 2])
            indices.append(index)
        features = self.centre(features)
        for level, block in enumerate(self.decoder):
            features = block(unpool2(features, indices[len(indices) - 1 - level]))
        return self.head(features)


def unpool2(features: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Return each value at the place of its maximum, and zeros elsewhere: ``(B, C, h, w)`` -> ``(B, C, 2h, 2w)``.

    ``nn.MaxUnpool2d`` does not script.

    Args:
        features: the pooled values.
        indices: from ``max_pool2d_with_indices``, of the same shape.
    """
    batch, channels, height, width = features.shape
    empty = torch.zeros(batch, channels, 4 * height * width, dtype=features.dtype, device=features.device)
    filled = empty.scatter(2, indices.flatten(2), features.flatten(2))
    return filled.reshape(batch, channels, 2 * height, 2 * width)
