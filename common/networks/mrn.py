"""Multi-resolution networks, Gu et al. 2018: one encoder per view, one decoder, fused at every level."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from ..renamed import renamed_argument
from .base import SegmentationNetwork, center_crop
from .blocks import RECEPTIVE_RADIUS, Decoder, Encoder, conv_bn_relu, upsample

UPSAMPLES = ("bilinear", "transposed", "transposed_single")


def conv_bn_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return two 3 x 3 convolutions with batch normalisation and ReLU: a dark blue box of Fig. 2."""
    return nn.Sequential(*conv_bn_relu(in_channels, out_channels), *conv_bn_relu(out_channels, out_channels))


def upsampling_layer(channels: int, factor: int, mode: str) -> nn.Module:
    """Return v of eq. 2: ``(B, c, h, w)`` -> ``(B, c, h · factor, w · factor)``.

    Args:
        channels: c.
        factor: a power of two.
        mode: ``"bilinear"``; ``"transposed"``: 2 x 2 transposed convolutions of stride 2 one after the other, as in
            the paper's figures; ``"transposed_single"``: one of kernel and stride ``factor``. The paper does not say
            which of the two it means.

    Raises:
        ValueError: unknown ``mode``.
    """
    if mode == "bilinear":
        return nn.Upsample(scale_factor=factor, mode="bilinear", align_corners=False)
    if mode == "transposed":
        doublings = factor.bit_length() - 1
        return nn.Sequential(*(upsample(channels, channels, 2, batch_norm=True) for _ in range(doublings)))
    if mode == "transposed_single":
        return upsample(channels, channels, factor, factor, batch_norm=True)
    raise ValueError(f"upsample must be one of {', '.join(UPSAMPLES)}, not {mode!r}")


class Fusion(nn.Module):
    """Fusion of one level's maps of several resolutions, the coarser ones cropped to what the finest one covers.

    The coarser maps are upsampled, all are concatenated, and a 1 x 1 convolution with batch normalisation and without
    activation weighs them (section 3.2).

    Args:
        channels: channels of every map and of the result.
        resolutions: number of maps, each twice as coarse as the one before.
        upsample: mode of :func:`upsampling_layer`.

    Shape:
        finest ``(B, c, h, w)`` and, for j = 1, 2, …, ``(B, c, h / 2^j, w / 2^j)`` -> ``(B, c, h, w)``.
    """

    def __init__(self, channels: int, resolutions: int, upsample: str = "bilinear") -> None:
        super().__init__()
        self.upscale = nn.ModuleList(upsampling_layer(channels, 2**j, upsample) for j in range(1, resolutions))
        self.weigh = nn.Sequential(nn.Conv2d(resolutions * channels, channels, 1), nn.BatchNorm2d(channels))

    def forward(self, finest: torch.Tensor, coarse: list[torch.Tensor]) -> torch.Tensor:
        maps = [finest]
        for index, upscale in enumerate(self.upscale):
            maps.append(upscale(coarse[index]))
        return self.weigh(torch.cat(maps, dim=1))


class MultiResolution(SegmentationNetwork):
    """Any encoder and decoder made multi-resolution after Gu et al. 2018: every view has an encoder, and their maps are
    fused level by level before they enter the one decoder.

    Args:
        encoders: one per view, finest first; ``(B, 3, H, W)`` -> a list of maps of the same shapes for all.
        decoder: such a list -> logits ``(B, C, H, W)``.
        channels: channels of each map.
        strides: stride of each map in input pixels.
        upsample: mode of :func:`upsampling_layer`.
        receptive_radius: receptive radius of an output pixel, in pixels of the coarsest map; None if it is not
            bounded: the network then runs patch by patch only.

    Shape:
        image ``(B, 3·J, H, W)``, finest view first; H, W multiples of ``size_divisor`` -> logits ``(B, C, H, W)``.

    Example:
        >>> from common.networks.blocks import Encoder
        >>> class Finest(nn.Module):
        ...     def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        ...         return maps[0]
        >>> network = MultiResolution([Encoder(3, [4]), Encoder(3, [4])], Finest(), channels=[4], strides=[1])
        >>> network(torch.rand(1, 6, 64, 64)).shape
        torch.Size([1, 4, 64, 64])
    """

    def __init__(
        self,
        encoders: Sequence[nn.Module],
        decoder: nn.Module,
        channels: Sequence[int],
        strides: Sequence[int],
        upsample: str = "bilinear",
        receptive_radius: int | None = None,
    ) -> None:
        super().__init__([2**view for view in range(len(encoders))])
        self.resolutions = len(encoders)
        deepest, coarsest = max(strides), 1 << (self.resolutions - 1)
        # The crop of the coarsest view's deepest map starts after (1 - 1 / γ) / 2 of it, which must be whole pixels.
        self.size_divisor = deepest * (2 * coarsest if self.resolutions > 1 else 1)
        if receptive_radius is not None:
            self.alignment, self.receptive_margin = deepest * coarsest, receptive_radius * deepest
        self.strides = list(strides)
        self.encoders, self.decoder = nn.ModuleList(encoders), decoder
        # A single view has nothing to be fused with.
        widths = channels if self.resolutions > 1 else ()
        self.fusions = nn.ModuleList(Fusion(width, self.resolutions, upsample) for width in widths)

    def encode_context(self, coarse: list[torch.Tensor], height: int, width: int) -> list[torch.Tensor]:
        """Return u of eq. 2: the cropped maps of each coarse view, finest level first.

        They are upsampled later, so that a target's maps are upsampled as those of the paper's patch.
        """
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
    """Multi-resolution network: one U-Net encoder per view, of the same form but with weights of its own, and one
    decoder.

    Args:
        out_channels: 1: tumour or not, to be read with a sigmoid; more: channel 0 is the first class.
        resolutions: number of views, each twice as coarse as the one before; 1 is the U-Net that the paper compares
            with.
        upsample: ``"bilinear"`` (MRN-bilinear) or ``"transposed"`` (MRN-transposed); see :func:`upsampling_layer`.
        channels: encoder widths, finest level first. The paper does not state them; 16 barely fits its GPU.
        output_norm: batch normalisation after the output's 1 x 1 convolution, too. The text has one after every
            convolution; after this one it would set the mean and spread of a batch's logits, whatever the batch shows.

    Shape:
        image ``(B, 3·J, H, W)`` in [0, 1], finest view first; H, W multiples of 2^(levels + J - 1), 256 with four
        resolutions -> logits ``(B, out_channels, H, W)``.

    Example:
        >>> network = MRN(out_channels=1, resolutions=2, channels=(4, 6, 8))
        >>> network(torch.rand(1, 6, 64, 64)).shape
        torch.Size([1, 1, 64, 64])

    Source: Gu et al. 2018, section 3.2 and Fig. 2.
    """

    @renamed_argument("num_classes", "out_channels")
    def __init__(
        self,
        out_channels: int = 1,
        resolutions: int = 4,
        upsample: str = "bilinear",
        channels: Sequence[int] = (16, 32, 64, 128, 256),
        output_norm: bool = False,
    ) -> None:
        if resolutions < 1:
            raise ValueError(f"resolutions must be at least 1, not {resolutions}")
        super().__init__(
            [Encoder(3, channels, conv_bn_block) for _ in range(resolutions)],
            _UNetDecoder(channels, out_channels, output_norm),
            channels,
            [2**level for level in range(len(channels))],
            upsample,
            RECEPTIVE_RADIUS,
        )
        self.initialise()


class _UNetDecoder(nn.Module):
    def __init__(self, channels: Sequence[int], out_channels: int, output_norm: bool) -> None:
        super().__init__()
        self.decoder = Decoder(channels, None, conv_bn_block, partial(upsample, kernel_size=2, batch_norm=True))
        self.head = nn.Conv2d(channels[0], out_channels, 1)
        self.norm = nn.BatchNorm2d(out_channels) if output_norm else nn.Identity()

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        return self.norm(self.head(self.decoder(features)[-1]))
