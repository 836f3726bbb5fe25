"""Multi-resolution networks, Gu et al. 2018: one encoder per view, one decoder, fused at every level."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..renamed import renamed_argument
from .base import SegmentationNetwork, center_crop
from .blocks import RECEPTIVE_RADIUS, Decoder, Encoder

UPSAMPLES = ("bilinear", "transposed", "transposed_single")


def normalised_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Twice 3 x 3 convolution, batch normalisation, ReLU: a dark blue box of Fig. 2."""
    return nn.Sequential(*_convolved(in_channels, out_channels), *_convolved(out_channels, out_channels))


def normalised_upsample(in_channels: int, out_channels: int, factor: int = 2) -> nn.Sequential:
    """Transposed convolution of kernel and stride ``factor``, batch normalisation, ReLU: a green box of Fig. 2."""
    return nn.Sequential(
        nn.ConvTranspose2d(in_channels, out_channels, factor, stride=factor),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def _convolved(in_channels: int, out_channels: int) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    ]


def upscaling(channels: int, factor: int, upsample: str) -> nn.Module:
    """v of eq. 2: ``(B, c, h, w)`` -> ``(B, c, h · factor, w · factor)``.

    Args:
        channels: c.
        factor: a power of two.
        upsample: ``"bilinear"``; ``"transposed"``: 2 x 2 transposed convolutions of stride 2 one after the other, as
            all that the paper draws are; ``"transposed_single"``: one of kernel and stride ``factor``. The paper does
            not say which of the two it means.

    Raises:
        ValueError: another ``upsample``.
    """
    if upsample == "bilinear":
        return nn.Upsample(scale_factor=factor, mode="bilinear", align_corners=False)
    if upsample == "transposed":
        doublings = factor.bit_length() - 1
        return nn.Sequential(*(normalised_upsample(channels, channels) for _ in range(doublings)))
    if upsample == "transposed_single":
        return normalised_upsample(channels, channels, factor)
    raise ValueError(f"upsample must be one of {', '.join(UPSAMPLES)}, not {upsample!r}")


class Fusion(nn.Module):
    """Maps of one level from several resolutions, the coarser ones cropped to what the finest one covers, -> one map.

    The coarser maps are upscaled, all are concatenated, and a 1 x 1 convolution with batch normalisation and no
    activation weighs them (section 3.2).

    Args:
        channels: of every map, and of the result.
        resolutions: how many there are, each twice as coarse as the one before.
        upsample: see :func:`upscaling`.

    Shape:
        finest ``(B, c, h, w)`` and, for j = 1, 2, …, ``(B, c, h / 2^j, w / 2^j)`` -> ``(B, c, h, w)``.
    """

    def __init__(self, channels: int, resolutions: int, upsample: str = "bilinear") -> None:
        super().__init__()
        self.upscale = nn.ModuleList(upscaling(channels, 2**j, upsample) for j in range(1, resolutions))
        self.weigh = nn.Sequential(nn.Conv2d(resolutions * channels, channels, 1), nn.BatchNorm2d(channels))

    def forward(self, finest: torch.Tensor, coarse: list[torch.Tensor]) -> torch.Tensor:
        maps = [finest]
        for index, upscale in enumerate(self.upscale):
            maps.append(upscale(coarse[index]))
        return self.weigh(torch.cat(maps, dim=1))


class MultiResolution(SegmentationNetwork):
    """Any encoder and decoder made multi-resolution after Gu et al. 2018: an encoder of its own for every view, whose
    maps are fused level by level before they enter the one decoder.

    Args:
        encoders: one per view, finest first; ``(B, 3, H, W)`` -> a list of maps, all encoders' alike.
        decoder: such a list -> logits ``(B, C, H, W)``.
        channels: of each map.
        strides: input pixels that one pixel of each map is.
        upsample: see :func:`upscaling`.
        reach: how far, in pixels of the coarsest map, an output pixel sees; None if that is not bounded: then the
            network is run patch by patch only.

    Shape:
        image ``(B, 3·J, H, W)``, finest view first; H, W multiples of ``size_divisor`` -> logits ``(B, C, H, W)``.
    """

    def __init__(
        self,
        encoders: Sequence[nn.Module],
        decoder: nn.Module,
        channels: Sequence[int],
        strides: Sequence[int],
        upsample: str = "bilinear",
        reach: int | None = None,
    ) -> None:
        super().__init__()
        self.resolutions = len(encoders)
        self.views = tuple(1 << j for j in range(self.resolutions))
        deepest, coarsest = max(strides), 1 << (self.resolutions - 1)
        # The crop of the coarsest view's deepest map starts after (1 - 1 / γ) / 2 of it, which must be whole pixels.
        self.size_divisor = deepest * (2 * coarsest if self.resolutions > 1 else 1)
        if reach is not None:
            self.alignment, self.receptive_margin = deepest * coarsest, reach * deepest
        self.strides = list(strides)
        self.encoders, self.decoder = nn.ModuleList(encoders), decoder
        # A single view has nothing to be fused with.
        widths = channels if self.resolutions > 1 else ()
        self.fusions = nn.ModuleList(Fusion(width, self.resolutions, upsample) for width in widths)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.check_input(image, 3 * self.resolutions)
        coarse = [image[:, 3 * j : 3 * j + 3] for j in range(1, self.resolutions)]
        return self.forward_with_context(image[:, 0:3], self.encode_context(coarse, image.shape[2], image.shape[3]))

    def encode_context(self, coarse: list[torch.Tensor], height: int, width: int) -> list[torch.Tensor]:
        """u of eq. 2: per coarse view its maps, finest level first, cropped; upscaled they are later, so that a target
        is upscaled as the paper's patch is."""
        context: list[torch.Tensor] = []
        for view, encoder in enumerate(self.encoders):
            if view > 0:
                maps = encoder(coarse[view - 1])
                for level in range(len(self.strides)):
                    pixels = self.strides[level] << view
                    context.append(center_crop(maps[level], height // pixels, width // pixels))
        return context

    def forward_with_context(self, finest: torch.Tensor, context: list[torch.Tensor]) -> torch.Tensor:
        levels = len(self.strides)
        fused: list[torch.Tensor] = self.encoders[0](finest)
        for level, fusion in enumerate(self.fusions):
            coarse = [context[view * levels + level] for view in range(self.resolutions - 1)]
            fused[level] = fusion(fused[level], coarse)
        return self.decoder(fused)


class MRN(MultiResolution):
    """Multi-resolution network: U-Nets' encoders of the same form for every view, weights not shared, one decoder.

    Args:
        out_channels: 1: tumour or not, to be read with a sigmoid; more: channel 0 is the first of them.
        resolutions: views, each twice as coarse as the one before; 1 is the U-Net that the paper compares with.
        upsample: ``"bilinear"`` (MRN-bilinear) or ``"transposed"`` (MRN-transposed); see :func:`upscaling`.
        channels: encoder widths, finest level first. The paper does not say them; 16 is borderline on its GPU.

    Shape:
        image ``(B, 3·J, H, W)`` in [0, 1], finest view first; H, W multiples of 2^(levels + J - 1), 256 with four
        resolutions -> logits ``(B, out_channels, H, W)``.

    Source: Gu et al. 2018, section 3.2 and Fig. 2.
    """

    @renamed_argument("num_classes", "out_channels")
    def __init__(
        self,
        out_channels: int = 1,
        resolutions: int = 4,
        upsample: str = "bilinear",
        channels: Sequence[int] = (16, 32, 64, 128, 256),
    ) -> None:
        if resolutions < 1:
            raise ValueError(f"resolutions must be at least 1, not {resolutions}")
        super().__init__(
            [Encoder(3, channels, normalised_block) for _ in range(resolutions)],
            _UNetDecoder(channels, out_channels),
            channels,
            [2**level for level in range(len(channels))],
            upsample,
            RECEPTIVE_RADIUS,
        )
        self.initialise()


class _UNetDecoder(nn.Module):
    def __init__(self, channels: Sequence[int], out_channels: int) -> None:
        super().__init__()
        plain = [0] * (len(channels) - 1)
        self.decoder = Decoder(channels, plain, normalised_block, normalised_upsample)
        self.head = nn.Conv2d(channels[0], out_channels, 1)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        nothing: list[list[torch.Tensor]] = [[] for _ in range(len(features) - 1)]
        return self.head(self.decoder(features, nothing)[-1])
