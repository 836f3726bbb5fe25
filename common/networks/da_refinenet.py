"""DA-RefineNet (Li et al. 2020), and RefineNet, its baseline of one input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from ..renamed import renamed_argument
from .base import SegmentationNetwork
from .blocks import conv
from .refinement import ChainedResidualPooling, ResidualConvUnit, fusion_block
from .resnet import WIDTHS, ResNetEncoder

# Widths of the decoder's blocks, deepest first. Their weights keep PyTorch's initialisation: residual units and
# poolings add up without normalisation, so weights that keep each convolution's variance would make logits of a
# million.
DECODER_WIDTHS = (512, 256, 256, 256)


class RefineNet(SegmentationNetwork):
    """RefineNet on a ResNet encoder, for slices alone.

    Args:
        out_channels: C.
        encoder: see :func:`resnet`.
        channels: widths of the encoder's stages.
        decoder_channels: widths of the decoder's blocks, deepest first.

    Shape:
        image ``(B, 3, H, W)`` in [0, 1]; H, W multiples of 4 -> logits ``(B, C, H, W)``.

    Example:
        >>> network = RefineNet(3, "resnet18", channels=(4, 6, 8, 10), decoder_channels=(8, 6, 6, 6))
        >>> network(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 3, 64, 64])

    Source: Li et al. 2020, Table I, "Single-input": state dicts of 341.0, 417.2 and 479.9 MB (10^6 bytes) on ResNet-50,
    -101 and -152; printed are 334, 417 and 480. Reductions are 1 x 1, and all other convolutions outside of residual
    units 3 x 3. The released code has it the other way round, which is 1.1 % off.
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
            nn.Sequential(conv(deep, width, 1, bias=False), residual_units(width, 2))
            for deep, width in zip(reversed(self.slice_encoder.widths), widths, strict=True)
        )
        self.refine = nn.ModuleList(refinement(widths, index, kernel_size=3) for index in range(4))
        self.reverse = ReverseFeatures()
        self.head = classifier(widths[-1], out_channels)

    def forward_with_context(self, finest: torch.Tensor, context: list[torch.Tensor]) -> torch.Tensor:
        maps = self.reverse(self.slice_encoder(finest))
        previous: list[torch.Tensor] = []
        for index, (path, refine) in enumerate(zip(self.slices, self.refine)):
            current = path(maps[index])
            if index > 0:
                current = current + upsample_to(previous[index - 1], current)
            previous.append(refine(current))
        return upsample_to(self.head(previous[3]), finest)


class DARefineNet(SegmentationNetwork):
    """Dual-inputs attention RefineNet: a slice, and the tile around it shrunk to as many pixels.

    The tile's part is the same for all slices in it: :meth:`encode_context` returns what they share.

    Args:
        out_channels: C.
        slice_encoder, context_encoder: see :func:`resnet`.
        fusion: ``"attention"``, ``"concat"`` or ``"add"``; see :func:`fusion_block`.
        channels: widths of the encoders' stages.
        decoder_channels: widths of the decoder's blocks, deepest first.
        context_ratio: µm/px of the tile divided by the slice's; 1 if the second input is the slice once more
            ("multi-size dual-inputs").

    Shape:
        image ``(B, 6, H, W)`` in [0, 1], slice first; H, W multiples of 4 -> logits of the slice ``(B, C, H, W)``.

    Example:
        >>> network = DARefineNet(3, "resnet18", "resnet18", channels=(4, 6, 8, 10), decoder_channels=(8, 6, 6, 6))
        >>> network(torch.rand(1, 6, 64, 64)).shape
        torch.Size([1, 3, 64, 64])

    Source: Li et al. 2020, section III and Figure 3. State dicts with ``"add"`` of 441.0, 517.2 and 579.9 MB (10^6
    bytes) with slices on ResNet-50, -101 and -152 (Table I: 441, 517, 580).
    """

    position_independent_context = True

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
        super().__init__((1, context_ratio))
        self.size_divisor = 4
        self.slice_encoder = ResNetEncoder(slice_encoder, channels)
        self.context_encoder = ResNetEncoder(context_encoder, channels)
        widths = list(decoder_channels)
        self.slices = nn.ModuleList(
            nn.Sequential(
                conv(deep, width, 1, bias=False),
                residual_units(width, 2),
                conv(width, width, 1, bias=False) if index else nn.ReLU(),
            )
            for index, (deep, width) in enumerate(zip(reversed(self.slice_encoder.widths), widths, strict=True))
        )
        self.contexts = nn.ModuleList(
            nn.Sequential(conv(deep, width, 1, bias=False), residual_units(width, 2), nn.ReLU())
            for deep, width in zip(reversed(self.context_encoder.widths), widths, strict=True)
        )
        self.fusions = nn.ModuleList(fusion_block(width, fusion, first=i == 0) for i, width in enumerate(widths))
        self.refine = nn.ModuleList(refinement(widths, index, kernel_size=1) for index in range(4))
        self.reverse = ReverseFeatures()
        self.head = classifier(widths[-1], out_channels)

    def encode_context(self, coarse: list[torch.Tensor], height: int, width: int) -> list[torch.Tensor]:
        """Return the tile's part in each decoder block, deepest first; see :class:`SegmentationNetwork`."""
        maps = self.reverse(self.context_encoder(coarse[0]))
        parts: list[torch.Tensor] = []
        for index, (path, fusion) in enumerate(zip(self.contexts, self.fusions)):
            parts.append(fusion.prepare_context(path(maps[index])))  # type: ignore[operator]
        return parts

    def forward_with_context(self, finest: torch.Tensor, context: list[torch.Tensor]) -> torch.Tensor:
        maps = self.reverse(self.slice_encoder(finest))
        previous: list[torch.Tensor] = []
        for index, (path, fusion, refine) in enumerate(zip(self.slices, self.fusions, self.refine)):
            current = [path(maps[index])]
            if index > 0:
                current.append(upsample_to(previous[index - 1], current[0]))
            previous.append(refine(fusion(current, context[index])))
        return upsample_to(self.head(previous[3]), finest)


class ReverseFeatures(nn.Module):
    """An encoder's four maps, deepest first, with dropout on the two deepest."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        return [self.dropout(maps[3]), self.dropout(maps[2]), maps[1], maps[0]]


def residual_units(channels: int, count: int) -> nn.Sequential:
    """Return ``count`` residual convolution units."""
    return nn.Sequential(*(ResidualConvUnit(channels) for _ in range(count)))


def refinement(widths: Sequence[int], index: int, kernel_size: int) -> nn.Sequential:
    """Return the layers after a decoder block's fusion: chained residual pooling, three residual units, and a
    convolution to the next block's width.

    Args:
        widths: widths of the decoder's blocks, deepest first.
        index: number of the block.
        kernel_size: kernel size of all convolutions but the residual units'.
    """
    width = widths[index]
    parts: list[nn.Module] = [ChainedResidualPooling(width, kernel_size), residual_units(width, 3)]
    if index + 1 < len(widths):
        parts.append(conv(width, widths[index + 1], kernel_size, bias=False))
    return nn.Sequential(*parts)


def classifier(channels: int, out_channels: int) -> nn.Sequential:
    """Return dropout and a 3 x 3 convolution."""
    return nn.Sequential(nn.Dropout(0.5), conv(channels, out_channels))


def upsample_to(features: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return ``(B, C, h, w)`` resized to the height and width of ``like``; bilinear, with aligned corners."""
    return functional.interpolate(features, size=like.shape[2:], mode="bilinear", align_corners=True)
