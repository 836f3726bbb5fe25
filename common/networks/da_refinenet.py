"""DA-RefineNet (Li et al. 2020), and RefineNet, its baseline of one input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from ..renamed import renamed_argument
from .base import SegmentationNetwork
from .refinement import ChainedResidualPooling, ResidualConvUnit, conv1x1, conv3x3, fusion_of
from .resnet import WIDTHS, ResNetEncoder

# Widths of the decoder's blocks, from deep to shallow. Their weights begin as PyTorch begins them: units and poolings
# add up without normalisation, and weights that keep each convolution's variance would make logits of a million.
DECODER_WIDTHS = (512, 256, 256, 256)


class RefineNet(SegmentationNetwork):
    """RefineNet on a ResNet encoder, for slices alone.

    Args:
        out_channels: C.
        encoder: see :func:`resnet`.
        channels: of the encoder's stages.
        decoder_channels: of the decoder's blocks, from deep to shallow.

    Shape:
        image ``(B, 3, H, W)`` in [0, 1]; H, W multiples of 4 -> logits ``(B, C, H, W)``.

    Source: Li et al. 2020, Table I, "Single-input": state dicts of 341.0, 417.2 and 479.9 MB (10^6 bytes) on ResNet-50,
    -101 and -152; printed are 334, 417 and 480. Reductions of 1 x 1, and all other convolutions outside of residual
    units of 3 x 3: the released code, which has it the other way round, is 1.1 % off.
    """

    @renamed_argument("num_classes", "out_channels")
    def __init__(
        self,
        out_channels: int = 4,
        encoder: str = "resnet50",
        channels: Sequence[int] = WIDTHS,
        decoder_channels: Sequence[int] = DECODER_WIDTHS,
    ) -> None:
        super().__init__()
        self.size_divisor = 4
        self.slice_encoder = ResNetEncoder(encoder, channels)
        widths = list(decoder_channels)
        self.slices = nn.ModuleList(
            nn.Sequential(conv1x1(deep, width), units(width, 2))
            for deep, width in zip(reversed(self.slice_encoder.widths), widths, strict=True)
        )
        self.refine = nn.ModuleList(refinement(widths, index, kernel=3) for index in range(4))
        self.deep_first = DeepFirst()
        self.head = classifier(widths[-1], out_channels)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.check_input(image, 3)
        maps = self.deep_first(self.slice_encoder(image))
        previous: list[torch.Tensor] = []
        for index, (path, refine) in enumerate(zip(self.slices, self.refine)):
            current = path(maps[index])
            if index > 0:
                current = current + resized(previous[index - 1], current)
            previous.append(refine(current))
        return enlarged(self.head(previous[3]))


class DARefineNet(SegmentationNetwork):
    """Dual-inputs attention RefineNet: a slice, and the tile around it shrunk to as many pixels.

    Args:
        out_channels: C.
        slice_encoder, context_encoder: see :func:`resnet`.
        fusion: ``"attention"``, ``"concat"`` or ``"add"``; see :func:`fusion_of`.
        channels: of the encoders' stages.
        decoder_channels: of the decoder's blocks, from deep to shallow.
        context_ratio: µm/px of the tile over that of the slice; 1 where the second input is the slice once more
            ("multi-size dual-inputs").

    Shape:
        image ``(B, 6, H, W)`` in [0, 1], slice first; H, W multiples of 4 -> logits of the slice ``(B, C, H, W)``.

    The tile's part is the same for all slices in it: :meth:`encode_context` gives what they share.

    Source: Li et al. 2020, section III and Figure 3. State dicts with ``"add"`` of 441.0, 517.2 and 579.9 MB (10^6
    bytes) with slices on ResNet-50, -101 and -152 (Table I: 441, 517, 580).
    """

    @renamed_argument("num_classes", "out_channels")
    def __init__(
        self,
        out_channels: int = 4,
        slice_encoder: str = "resnet50",
        context_encoder: str = "resnet50",
        fusion: str = "attention",
        channels: Sequence[int] = WIDTHS,
        decoder_channels: Sequence[int] = DECODER_WIDTHS,
        context_ratio: float = 5.0,
    ) -> None:
        super().__init__()
        self.views, self.size_divisor = (1, context_ratio), 4
        self.position_independent_context = True
        self.slice_encoder = ResNetEncoder(slice_encoder, channels)
        self.context_encoder = ResNetEncoder(context_encoder, channels)
        widths = list(decoder_channels)
        self.slices = nn.ModuleList(
            nn.Sequential(conv1x1(deep, width), units(width, 2), conv1x1(width, width) if index else nn.ReLU())
            for index, (deep, width) in enumerate(zip(reversed(self.slice_encoder.widths), widths, strict=True))
        )
        self.contexts = nn.ModuleList(
            nn.Sequential(conv1x1(deep, width), units(width, 2), nn.ReLU())
            for deep, width in zip(reversed(self.context_encoder.widths), widths, strict=True)
        )
        self.fusions = nn.ModuleList(fusion_of(fusion, width, first=i == 0) for i, width in enumerate(widths))
        self.refine = nn.ModuleList(refinement(widths, index, kernel=1) for index in range(4))
        self.deep_first = DeepFirst()
        self.head = classifier(widths[-1], out_channels)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.check_input(image, 6)
        context = self.encode_context([image[:, 3:]], image.shape[2], image.shape[3])
        return self.forward_with_context(image[:, :3], context)

    def encode_context(self, coarse: list[torch.Tensor], height: int, width: int) -> list[torch.Tensor]:
        """What of the tile enters each block, from deep to shallow; see :class:`SegmentationNetwork`."""
        maps = self.deep_first(self.context_encoder(coarse[0]))
        parts: list[torch.Tensor] = []
        for index, (path, fusion) in enumerate(zip(self.contexts, self.fusions)):
            parts.append(fusion.of_context(path(maps[index])))  # type: ignore[operator]
        return parts

    def forward_with_context(self, finest: torch.Tensor, context: list[torch.Tensor]) -> torch.Tensor:
        maps = self.deep_first(self.slice_encoder(finest))
        previous: list[torch.Tensor] = []
        for index, (path, fusion, refine) in enumerate(zip(self.slices, self.fusions, self.refine)):
            current = [path(maps[index])]
            if index > 0:
                current.append(resized(previous[index - 1], current[0]))
            previous.append(refine(fusion(current, context[index])))
        return enlarged(self.head(previous[3]))


def units(channels: int, count: int) -> nn.Sequential:
    """So many residual convolution units."""
    return nn.Sequential(*(ResidualConvUnit(channels) for _ in range(count)))


def refinement(widths: Sequence[int], index: int, kernel: int) -> nn.Sequential:
    """What follows a block's fusion: chained residual pooling, three residual units, and a convolution to the next
    block's width; ``kernel`` of all but the units'."""
    width = widths[index]
    parts = [ChainedResidualPooling(width, kernel), units(width, 3)]
    if index + 1 < len(widths):
        parts.append({1: conv1x1, 3: conv3x3}[kernel](width, widths[index + 1]))
    return nn.Sequential(*parts)


def classifier(channels: int, out_channels: int) -> nn.Sequential:
    """Dropout and a 3 x 3 convolution."""
    return nn.Sequential(nn.Dropout(0.5), conv3x3(channels, out_channels, bias=True))


class DeepFirst(nn.Module):
    """An encoder's maps from deep to shallow, with dropout on the two deepest."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        return [self.dropout(maps[3]), self.dropout(maps[2]), maps[1], maps[0]]


def resized(features: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Bilinear, corners on corners."""
    return functional.interpolate(features, size=like.shape[2:], mode="bilinear", align_corners=True)


def enlarged(logits: torch.Tensor) -> torch.Tensor:
    """From the shallowest map's stride of 4 to the image's pixels."""
    return functional.interpolate(logits, scale_factor=4.0, mode="bilinear", align_corners=True)
