"""Encoder-decoders of Mehta et al. 2018, of one resolution and of several fused."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from ..renamed import renamed_argument
from .base import SegmentationNetwork, center_crop
from .blocks import conv_bn_relu, upsample
from .pointwise import PointwiseTransposed
from .resnet import WIDTHS, resnet

SKIPS = ("none", "residual", "dense")
FUSIONS = ("dilated", "stack", "pyramid")


class Backbone(nn.Module):
    """ResNet-18's convolutions.

    Args:
        channels: widths of its four stages, the first also that of the layers before them.
        input_aware: add the image itself, averaged down, to the first two maps (input-aware residual units; section
            3.1). The published parameter counts leave no room for it in deeper ones.

    Shape:
        ``(B, 3, H, W)`` -> six maps, of strides 2, 4, 4, 8, 16 and 32.
    """

    def __init__(self, channels: Sequence[int], input_aware: bool) -> None:
        super().__init__()
        self.resnet = resnet("resnet18", channels)
        self.average = nn.AvgPool2d(3, 2, 1)
        self.inputs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(3, channels[0], 1), conv_bn_relu(channels[0], channels[0]))
            for _ in range(2 if input_aware else 0)
        )

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        averaged = image
        inputs: list[torch.Tensor] = []
        for path in self.inputs:
            averaged = self.average(averaged)
            inputs.append(path(averaged))
        first = self.resnet.act(self.resnet.bn1(self.resnet.conv1(image)))
        if len(inputs) > 0:
            first = first + inputs[0]
        second = self.resnet.maxpool(first)
        if len(inputs) > 0:
            second = second + inputs[1]
        third = self.resnet.layer1(second)
        fourth = self.resnet.layer2(third)
        fifth = self.resnet.layer3(fourth)
        return [first, second, third, fourth, fifth, self.resnet.layer4(fifth)]


class Skip(nn.Module):
    """Addition of backbone maps to a map of the decoder.

    Args:
        identities: first number and the one past the last of the maps that are added unchanged.
        projections: one per finest map, in their order, that brings it to the decoder map's size and width.
    """

    def __init__(self, identities: tuple[int, int], projections: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.begin, self.end = identities
        self.projections = nn.ModuleList(projections)

    def forward(self, current: torch.Tensor, maps: list[torch.Tensor]) -> torch.Tensor:
        for level in range(self.begin, self.end):
            current = current + maps[level]
        for level, projection in enumerate(self.projections):
            current = current + projection(maps[level])
        return current


class DenseDecoder(nn.Module):
    """Five upsamplings of the deepest map, to which other maps of the backbone are added.

    Args:
        out_channels: C.
        channels: the backbone's widths.
        skips: maps that are added before each upsampling but the first: ``"none"``; ``"residual"``: the backbone's map
            of that size, the deeper one of the two of stride 4; ``"dense"``: also all finer ones, brought to that size
            and width by 1 x 1 convolutions.

    Shape:
        the backbone's maps -> ``(B, C, H, W)``.
    """

    def __init__(self, out_channels: int, channels: Sequence[int], skips: str) -> None:
        super().__init__()
        first, second, third, fourth = channels
        widths, strides = [fourth, third, second, first, first, first], [32, 16, 8, 4, 2]
        self.ups = nn.ModuleList(upsample(i, o, batch_norm=True) for i, o in pairwise(widths))
        identities = [(0, 0), (4, 5), (3, 4), (2, 3), (0, 1)] if skips != "none" else [(0, 0)] * 5
        projected = [0] * 5
        if skips == "dense":
            # Both maps of stride 4 have the size and width of the fourth sum.
            identities[3], projected = (1, 3), [0, 4, 3, 1, 0]
        map_widths, map_strides = [first, first, first, second], [2, 4, 4, 8]
        self.skips = nn.ModuleList(
            Skip(
                identities[j],
                [conv_bn_relu(map_widths[k], widths[j], 1, strides[j] // map_strides[k]) for k in range(projected[j])],
            )
            for j in range(5)
        )
        self.classes = conv_bn_relu(first, out_channels, 1)

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        current = maps[5]
        for skip, up in zip(self.skips, self.ups):
            current = up(skip(current, maps))
        return self.classes(current)


class SparseDecoder(nn.Module):
    """Five upsamplings of class maps by 1 x 1 transposed convolutions, to which 1 x 1 projections of the backbone's
    maps are added.

    Args:
        out_channels: channels throughout.
        channels: the backbone's widths.

    Shape:
        the backbone's maps -> ``(B, out_channels, H, W)``.
    """

    def __init__(self, out_channels: int, channels: Sequence[int]) -> None:
        super().__init__()
        first, second, third, fourth = channels
        self.deepest = PointwiseTransposed(fourth, out_channels)
        self.projections = nn.ModuleList(nn.Conv2d(i, out_channels, 1) for i in (first, first, first, second, third))
        self.ups = nn.ModuleList(upsample(out_channels, out_channels, 1, batch_norm=True) for _ in range(4))

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        projected: list[torch.Tensor] = []
        for index, projection in enumerate(self.projections):
            projected.append(projection(maps[index]))
        added = [projected[3], projected[2] + projected[1], projected[0]]
        current = self.deepest(maps[5]) + projected[4]
        for index, up in enumerate(self.ups):
            current = up(current)
            if index < len(added):
                current = current + added[index]
        return current


class EncoderDecoder(SegmentationNetwork):
    """Encoder-decoder on a ResNet-18 backbone, for patches of one resolution.

    Args:
        out_channels: C.
        skips: see :class:`DenseDecoder`. ``"none"`` is the paper's Plain, ``"residual"`` its Residual network.
        sparse_decoder: whether a :class:`SparseDecoder` is added to the dense one.
        input_aware: see :class:`Backbone`. With dense skips and both of these the network is the paper's own; without
            ``input_aware`` its A1, without ``sparse_decoder`` A2, without either A3.
        channels: widths of the backbone's stages.

    Shape:
        image ``(B, 3, H, W)`` in [0, 1]; H, W multiples of 32 -> logits ``(B, C, H, W)``, at least 0: the last layer
        ends with a ReLU like the others.

    Raises:
        ValueError: unknown ``skips``.

    Example:
        >>> network = EncoderDecoder(out_channels=3, channels=(4, 5, 6, 7))
        >>> network(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 3, 64, 64])

    Source: Mehta et al. 2018, section 3 and Figure 2; Table II: 12.80, 12.80, 13.00, 12.93, 12.99, 12.92 million
        parameters with eight classes.
    """

    @renamed_argument("num_classes", "out_channels")
    def __init__(
        self,
        out_channels: int = 8,
        skips: str = "dense",
        sparse_decoder: bool = True,
        input_aware: bool = True,
        channels: Sequence[int] = WIDTHS,
    ) -> None:
        super().__init__()
        if skips not in SKIPS:
            raise ValueError(f"skips must be one of {', '.join(SKIPS)}, not {skips!r}")
        self.size_divisor = self.alignment = 32
        self.receptive_margin = 8 * self.size_divisor
        # Module names are those of the weights in existing checkpoints.
        self.trunk = Backbone(channels, input_aware)
        self.dense = DenseDecoder(out_channels, channels, skips)
        self.sparse = SparseDecoder(out_channels, channels) if sparse_decoder else None
        self.input_path = conv_bn_relu(3, out_channels)
        self.last = conv_bn_relu(out_channels, out_channels)
        self.initialise()

    def forward_with_context(self, finest: torch.Tensor, context: list[torch.Tensor]) -> torch.Tensor:
        maps = self.trunk(finest)
        total = self.dense(maps) + self.input_path(finest)
        if self.sparse is not None:
            total = total + self.sparse(maps)
        return self.last(total)


class DilatedFusion(nn.Module):
    """Densely connected dilated convolutions (Figure 4): each also sees the first one's map and the input.

    An output pixel sees 65 x 65 pixels.

    Shape:
        ``(B, c, H, W)`` -> the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv_bn_relu(channels, channels)
        self.dilated = nn.ModuleList(conv_bn_relu(channels, channels, dilation=rate) for rate in (2, 4, 8, 16))
        self.last = conv_bn_relu(channels, channels)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        first = self.first(image)
        current, total = first, first + image
        for dilated in self.dilated:
            current = dilated(current) + first + image
            total = total + current
        return self.last(torch.relu(total))


class PyramidFusion(nn.Module):
    """Fusion-B (Figure 5b): parallel dilated convolutions, summed.

    An output pixel sees 37 x 37 pixels.

    Shape:
        ``(B, c, H, W)`` -> the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dilated = nn.ModuleList(conv_bn_relu(channels, channels, dilation=rate) for rate in (1, 6, 12, 18))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        total = torch.zeros_like(image)
        for dilated in self.dilated:
            total = total + dilated(image)
        return total


def fusion_block(channels: int, fusion: str) -> nn.Module:
    """Return the block that fuses two encoder-decoders.

    Args:
        channels: input and output channels.
        fusion: ``"dilated"``: the paper's own; ``"stack"``: Fusion-A (Figure 5a), three 3 x 3 convolutions, of which an
            output pixel sees 7 x 7 pixels; ``"pyramid"``: Fusion-B.

    Raises:
        ValueError: unknown ``fusion``.
    """
    if fusion == "dilated":
        return DilatedFusion(channels)
    if fusion == "stack":
        return nn.Sequential(*(conv_bn_relu(channels, channels) for _ in range(3)))
    if fusion == "pyramid":
        return PyramidFusion(channels)
    raise ValueError(f"fusion must be one of {', '.join(FUSIONS)}, not {fusion!r}")


class MultiResolutionEncoderDecoder(SegmentationNetwork):
    """Two encoder-decoders on one magnification, fused. The first sees a wider patch than the second.

    The first sees the whole patch, the second its centre. The centre of the first one's output is added to the second
    one's output; a fusion block and a classifier follow.

    Args:
        out_channels: C.
        skips, sparse_decoder, input_aware, channels: settings of both; see :class:`EncoderDecoder`.
        fusion: see :func:`fusion_block`.

    Shape:
        image ``(B, 3, H, W)`` in [0, 1]; H, W multiples of 96 -> logits of the centre ``(B, C, 2/3 H, 2/3 W)``: 256²
        of the paper's patch of 384².

    Example:
        >>> network = MultiResolutionEncoderDecoder(out_channels=3, channels=(4, 5, 6, 7))
        >>> network(torch.rand(1, 3, 96, 96)).shape
        torch.Size([1, 3, 64, 64])

    Source: Mehta et al. 2018, section 3.3, Figures 4 and 5. With eight classes 26,005,014 parameters (Table II: 26.03
        million; the paper does not explain the difference).
    """

    @renamed_argument("num_classes", "out_channels")
    def __init__(
        self,
        out_channels: int = 8,
        skips: str = "dense",
        sparse_decoder: bool = True,
        input_aware: bool = True,
        fusion: str = "dilated",
        channels: Sequence[int] = WIDTHS,
    ) -> None:
        super().__init__()
        self.size_divisor, self.alignment = 96, 32
        # The margin of an encoder-decoder, and what fusion block and classifier see beyond it.
        self.receptive_margin = 9 * self.alignment
        self.normalise = nn.BatchNorm2d(3)
        self.wide = EncoderDecoder(out_channels, skips, sparse_decoder, input_aware, channels)
        self.centre = EncoderDecoder(out_channels, skips, sparse_decoder, input_aware, channels)
        self.fusion = fusion_block(out_channels, fusion)
        self.classifier = nn.Sequential(
            conv_bn_relu(out_channels, out_channels), nn.Conv2d(out_channels, out_channels, 1)
        )
        self.initialise()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.check_input(image)
        image = self.normalise(image)
        height, width = image.shape[2] // 3 * 2, image.shape[3] // 3 * 2
        wide = center_crop(self.wide(image), height, width)
        return self.classifier(self.fusion(wide + self.centre(center_crop(image, height, width))))

    def forward_with_context(self, finest: torch.Tensor, context: list[torch.Tensor]) -> torch.Tensor:
        """Return the logits of a whole block, all of which both encoder-decoders see."""
        finest = self.normalise(finest)
        return self.classifier(self.fusion(self.wide(finest) + self.centre(finest)))
