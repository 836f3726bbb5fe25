"""Encoder-decoders of Mehta et al. 2018, of one resolution and of several fused."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from ..renamed import renamed_argument
from .base import SegmentationNetwork, center_crop
from .resnet import WIDTHS, PointwiseStrided, resnet

SKIPS = ("none", "residual", "dense")
FUSIONS = ("dilated", "stack", "pyramid")


class PointwiseTransposed(nn.ConvTranspose2d):
    """1 x 1 transposed convolution of stride 2 that doubles the size: it fills one pixel in four, the others have its
    bias.

    It is computed without a stride for the reason of :class:`PointwiseStrided`.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1, 2, output_padding=1)

    def forward(self, features: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        filled = functional.conv2d(features, self.weight.transpose(0, 1))
        batch, channels, height, width = filled.shape
        apart = functional.pad(filled[:, :, :, None, :, None], [0, 1, 0, 0, 0, 1])
        apart = apart.reshape(batch, channels, 2 * height, 2 * width)
        bias = self.bias
        assert bias is not None
        return apart + bias[None, :, None, None]


def cbr(in_channels: int, out_channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Convolution that keeps the size (but for its stride), batch normalisation, ReLU."""
    if kernel == 1:
        convolution: nn.Conv2d = PointwiseStrided(in_channels, out_channels, stride)
    else:
        convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, dilation * (kernel // 2), dilation)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


def upsample(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    """Transposed convolution of stride 2 that doubles the size, batch normalisation, ReLU."""
    if kernel == 1:
        convolution: nn.ConvTranspose2d = PointwiseTransposed(in_channels, out_channels)
    else:
        convolution = nn.ConvTranspose2d(in_channels, out_channels, kernel, 2, kernel // 2, output_padding=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


class Trunk(nn.Module):
    """ResNet-18's convolutions: ``(B, 3, H, W)`` -> six maps, of strides 2, 4, 4, 8, 16, 32.

    Args:
        channels: widths of its four stages, the first also of what comes before.
        input_aware: the image itself, averaged down, enters the first two maps (input-aware residual units; section
            3.1). The published parameter counts leave no room for it in deeper ones.
    """

    def __init__(self, channels: Sequence[int], input_aware: bool) -> None:
        super().__init__()
        self.resnet = resnet("resnet18", channels)
        self.average = nn.AvgPool2d(3, 2, 1)
        paths = 2 if input_aware else 0
        self.inputs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(3, channels[0], 1), cbr(channels[0], channels[0], 3)) for _ in range(paths)
        )

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        averaged = image
        shown: list[torch.Tensor] = []
        for path in self.inputs:
            averaged = self.average(averaged)
            shown.append(path(averaged))
        first = self.resnet.act(self.resnet.bn1(self.resnet.conv1(image)))
        if len(shown) > 0:
            first = first + shown[0]
        second = self.resnet.maxpool(first)
        if len(shown) > 0:
            second = second + shown[1]
        third = self.resnet.layer1(second)
        fourth = self.resnet.layer2(third)
        fifth = self.resnet.layer3(fourth)
        return [first, second, third, fourth, fifth, self.resnet.layer4(fifth)]


class Skip(nn.Module):
    """Adds maps of the trunk to one of the decoder: some as they are, the finest ones brought to its size and width.

    Args:
        identities: the maps added as they are, from one to before another.
        projections: of the trunk's finest maps, in their order.
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
    """Doubles the deepest map five times, other maps of the trunk added on the way, -> ``(B, C, H, W)``.

    Args:
        out_channels: C.
        channels: the trunk's.
        skips: what is added before each doubling but the first: ``"none"``; ``"residual"``: the trunk's map of that
            size, the deeper one of the two of stride 4; ``"dense"``: also all finer ones, brought to that size and
            width by 1 x 1 convolutions.
    """

    def __init__(self, out_channels: int, channels: Sequence[int], skips: str) -> None:
        super().__init__()
        first, second, third, fourth = channels
        widths = [fourth, third, second, first, first, first]
        self.ups = nn.ModuleList(upsample(i, o, 3) for i, o in pairwise(widths))
        same = [(0, 0), (4, 5), (3, 4), (2, 3), (0, 1)] if skips != "none" else [(0, 0)] * 5
        finer = [0] * 5
        if skips == "dense":
            # Both maps of stride 4 have the size and width of the fourth sum.
            same[3], finer = (1, 3), [0, 4, 3, 1, 0]
        of_trunk, strides, at = [first, first, first, second], [2, 4, 4, 8], [32, 16, 8, 4, 2]
        self.skips = nn.ModuleList(
            Skip(same[j], [cbr(of_trunk[k], widths[j], 1, at[j] // strides[k]) for k in range(finer[j])])
            for j in range(5)
        )
        self.classes = cbr(first, out_channels, 1)

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        current = maps[5]
        for skip, up in zip(self.skips, self.ups):
            current = up(skip(current, maps))
        return self.classes(current)


class SparseDecoder(nn.Module):
    """Doubles class maps five times by 1 x 1 transposed convolutions, 1 x 1 projections of the trunk's maps added.

    Args:
        out_channels: channels throughout.
        channels: the trunk's.
    """

    def __init__(self, out_channels: int, channels: Sequence[int]) -> None:
        super().__init__()
        first, second, third, fourth = channels
        self.deepest = PointwiseTransposed(fourth, out_channels)
        self.projections = nn.ModuleList(nn.Conv2d(i, out_channels, 1) for i in (first, first, first, second, third))
        self.ups = nn.ModuleList(upsample(out_channels, out_channels, 1) for _ in range(4))

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        shown: list[torch.Tensor] = []
        for index, projection in enumerate(self.projections):
            shown.append(projection(maps[index]))
        added = [shown[3], shown[2] + shown[1], shown[0]]
        current = self.deepest(maps[5]) + shown[4]
        for index, up in enumerate(self.ups):
            current = up(current)
            if index < len(added):
                current = current + added[index]
        return current


class EncoderDecoder(SegmentationNetwork):
    """Encoder-decoder on a ResNet-18 trunk, for patches of one resolution.

    Args:
        out_channels: C.
        skips: see :class:`DenseDecoder`. ``"none"`` is the paper's Plain, ``"residual"`` its Residual network.
        sparse_decoder: a :class:`SparseDecoder` besides the dense one.
        input_aware: see :class:`Trunk`. With dense skips and both of these the network is the paper's own; without
            ``input_aware`` its A1, without ``sparse_decoder`` A2, without either A3.
        channels: of the trunk's stages.

    Shape:
        image ``(B, 3, H, W)`` in [0, 1]; H, W multiples of 32 -> logits ``(B, C, H, W)``, at least 0: the last layer
        ends with a ReLU as the others do.

    Raises:
        ValueError: unknown skips.

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
        self.trunk = Trunk(channels, input_aware)
        self.dense = DenseDecoder(out_channels, channels, skips)
        self.sparse = SparseDecoder(out_channels, channels) if sparse_decoder else None
        self.input_path = cbr(3, out_channels, 3)
        self.last = cbr(out_channels, out_channels, 3)
        self.initialise()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.check_input(image, 3)
        return self.forward_with_context(image, [])

    def forward_with_context(self, finest: torch.Tensor, context: list[torch.Tensor]) -> torch.Tensor:
        maps = self.trunk(finest)
        total = self.dense(maps) + self.input_path(finest)
        if self.sparse is not None:
            total = total + self.sparse(maps)
        return self.last(total)


class DilatedFusion(nn.Module):
    """Densely connected dilated convolutions (Figure 4): every one also sees the first one's map and the input. An
    output pixel sees 65 x 65."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = cbr(channels, channels, 3)
        self.dilated = nn.ModuleList(cbr(channels, channels, 3, dilation=rate) for rate in (2, 4, 8, 16))
        self.last = cbr(channels, channels, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        first = self.first(image)
        current, total = first, first + image
        for dilated in self.dilated:
            current = dilated(current) + first + image
            total = total + current
        return self.last(torch.relu(total))


class PyramidFusion(nn.Module):
    """Fusion-B (Figure 5b): parallel dilated convolutions, summed. An output pixel sees 37 x 37."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dilated = nn.ModuleList(cbr(channels, channels, 3, dilation=rate) for rate in (1, 6, 12, 18))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        total = torch.zeros_like(image)
        for dilated in self.dilated:
            total = total + dilated(image)
        return total


def fusion_block(channels: int, fusion: str) -> nn.Module:
    """``"dilated"``: the paper's own; ``"stack"``: Fusion-A (Figure 5a), three 3 x 3 convolutions, of which an output
    pixel sees 7 x 7; ``"pyramid"``: Fusion-B.

    Raises:
        ValueError: another ``fusion``.
    """
    if fusion == "dilated":
        return DilatedFusion(channels)
    if fusion == "stack":
        return nn.Sequential(*(cbr(channels, channels, 3) for _ in range(3)))
    if fusion == "pyramid":
        return PyramidFusion(channels)
    raise ValueError(f"fusion must be one of {', '.join(FUSIONS)}, not {fusion!r}")


class MultiResolutionEncoderDecoder(SegmentationNetwork):
    """Two encoder-decoders on one magnification, one of which sees a wider patch, fused.

    The first sees the whole patch, the second its centre; the centre of what the first says is added to what the second
    says, and a fusion block and a classifier follow.

    Args:
        out_channels: C.
        skips, sparse_decoder, input_aware, channels: of both; see :class:`EncoderDecoder`.
        fusion: see :func:`fusion_block`.

    Shape:
        image ``(B, 3, H, W)`` in [0, 1]; H, W multiples of 96 -> logits of the centre ``(B, C, 2/3 H, 2/3 W)``; of the
        paper's patch of 384² 256².

    Source: Mehta et al. 2018, section 3.3, Figures 4 and 5. With eight classes 26,005,014 parameters (Table II: 26.03
        million; what is missing is not explained).
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
        # Farther than either encoder-decoder sees, by what fusion block and classifier see.
        self.receptive_margin = 9 * self.alignment
        self.normalise = nn.BatchNorm2d(3)
        self.wide = EncoderDecoder(out_channels, skips, sparse_decoder, input_aware, channels)
        self.centre = EncoderDecoder(out_channels, skips, sparse_decoder, input_aware, channels)
        self.fusion = fusion_block(out_channels, fusion)
        self.classifier = nn.Sequential(cbr(out_channels, out_channels, 3), nn.Conv2d(out_channels, out_channels, 1))
        self.initialise()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.check_input(image, 3)
        image = self.normalise(image)
        height, width = image.shape[2] // 3 * 2, image.shape[3] // 3 * 2
        wide = center_crop(self.wide(image), height, width)
        return self.classifier(self.fusion(wide + self.centre(center_crop(image, height, width))))

    def forward_with_context(self, finest: torch.Tensor, context: list[torch.Tensor]) -> torch.Tensor:
        """Of a whole block, of which both encoder-decoders see everything."""
        finest = self.normalise(finest)
        return self.classifier(self.fusion(self.wide(finest) + self.centre(finest)))
