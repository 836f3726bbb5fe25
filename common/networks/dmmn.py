"""Deep multi-magnification networks, Ho et al. 2021.

They read three views of one centre, each twice as coarse as the one before: 20x, 10x and 5x.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..renamed import renamed_argument
from .base import SegmentationNetwork, center_crop
from .blocks import RECEPTIVE_RADIUS, Decoder, Encoder, head, upsample
from .unet import WIDTHS, UNet

HALF_WIDTHS = (32, 64, 128, 256, 512)
_RATIOS = (1, 2, 4)


class DMMNS2(UNet):
    """Single-encoder, single-decoder DMMN: a U-Net over the three views concatenated, uncropped.

    Args:
        out_channels: output channels, channel 0 ("unlabelled") included.
        channels: encoder widths, finest level first.

    Shape:
        image ``(B, 9, H, W)`` in [0, 1], finest magnification first; H, W multiples of 16 ->
        logits ``(B, out_channels, H, W)``.

    Example:
        >>> network = DMMNS2(out_channels=3, channels=(4, 8, 16))
        >>> network(torch.rand(1, 9, 64, 64)).shape
        torch.Size([1, 3, 64, 64])

    Source: Ho et al. 2021, Fig. 4b; 34,554,119 parameters (Table 2) with ``out_channels=7``.
    """

    @renamed_argument("num_classes", "out_channels", added=1)
    def __init__(self, *, out_channels: int = 7, channels: Sequence[int] = WIDTHS) -> None:
        super().__init__(out_channels=out_channels, channels=channels, in_channels=9)
        self.mpp_ratios = _RATIOS


class DMMNMS(SegmentationNetwork):
    """Multi-encoder, single-decoder DMMN: at each of the five levels, the coarser encoders' maps are centre-cropped,
    upsampled to the finest one's µm/px and join its decoder.

    At levels 1 to 4 they are concatenated with the map that enters the next transposed convolution. At level 0 they
    are concatenated with the last block's output, before the head.

    Args:
        out_channels: output channels, channel 0 ("unlabelled") included.
        channels: encoder widths, finest level first. The paper halves U-Net's.

    Shape:
        image ``(B, 9, H, W)`` in [0, 1], finest magnification first; H, W multiples of 128 ->
        logits ``(B, out_channels, H, W)``.

    Example:
        >>> network = DMMNMS(out_channels=3, channels=(4, 8, 16))
        >>> network(torch.rand(1, 9, 64, 64)).shape
        torch.Size([1, 3, 64, 64])

    Source: Ho et al. 2021, Fig. 4c; 30,647,207 parameters (Table 2) with ``out_channels=7``. The count alone would
        also allow the level-0 maps inside the last block; the released code has them at the head.
    """

    @renamed_argument("num_classes", "out_channels", added=1)
    def __init__(self, *, out_channels: int = 7, channels: Sequence[int] = HALF_WIDTHS) -> None:
        super().__init__(_RATIOS)
        pooled = 2 ** (len(channels) - 1)
        # The crop of the deepest 5x map starts after 3/8 of it, which must be whole pixels.
        self.size_divisor = 8 * pooled
        self.alignment, self.receptive_margin = 4 * pooled, RECEPTIVE_RADIUS * pooled
        self.encoder_20x = Encoder(3, channels)
        self.encoder_10x = Encoder(3, channels)
        self.encoder_5x = Encoder(3, channels)
        self.up_10x = nn.ModuleList(upsample(width, width) for width in channels)
        self.up_5x = nn.ModuleList(nn.Sequential(upsample(width, width), upsample(width, width)) for width in channels)
        self.decoder = Decoder(channels, [2 * width for width in channels[1:]])
        self.head = head(3 * channels[0], channels[0], out_channels)
        self.initialise()

    def encode_context(self, coarse: list[torch.Tensor], height: int, width: int) -> list[torch.Tensor]:
        features_10x = self.encoder_10x(coarse[0])
        features_5x = self.encoder_5x(coarse[1])
        context: list[torch.Tensor] = []
        for level, (up_10x, up_5x) in enumerate(zip(self.up_10x, self.up_5x)):
            context.append(up_10x(center_crop(features_10x[level], height >> (level + 1), width >> (level + 1))))
            context.append(up_5x(center_crop(features_5x[level], height >> (level + 2), width >> (level + 2))))
        return context

    def forward_with_context(self, finest: torch.Tensor, context: list[torch.Tensor]) -> torch.Tensor:
        features = self.encoder_20x(finest)
        extra: list[list[torch.Tensor]] = []
        for level in range(len(features) - 1, 0, -1):
            extra.append([context[2 * level], context[2 * level + 1]])
        decoded = self.decoder(features, extra)[-1]
        return self.head(torch.cat([decoded, context[0], context[1]], dim=1))


class DMMNM2S(SegmentationNetwork):
    """Multi-encoder, multi-decoder, single-concatenation DMMN: three U-Nets whose last maps are cropped, upsampled
    and concatenated.

    Args:
        out_channels: output channels, channel 0 ("unlabelled") included.
        channels: encoder widths, finest level first. The paper halves U-Net's.

    Shape:
        image ``(B, 9, H, W)`` in [0, 1], finest magnification first; H, W multiples of 16 ->
        logits ``(B, out_channels, H, W)``.

    Example:
        >>> network = DMMNM2S(out_channels=3, channels=(4, 8, 16))
        >>> network(torch.rand(1, 9, 64, 64)).shape
        torch.Size([1, 3, 64, 64])

    Source: Ho et al. 2021, Fig. 4d; 25,947,047 parameters (Table 2) with ``out_channels=7``.
    """

    @renamed_argument("num_classes", "out_channels", added=1)
    def __init__(self, *, out_channels: int = 7, channels: Sequence[int] = HALF_WIDTHS) -> None:
        super().__init__(_RATIOS)
        self.size_divisor = 2 ** (len(channels) - 1)
        self.alignment, self.receptive_margin = 4 * self.size_divisor, RECEPTIVE_RADIUS * self.size_divisor
        self.encoders = nn.ModuleList(Encoder(3, channels) for _ in self.mpp_ratios)
        self.decoders = nn.ModuleList(Decoder(channels) for _ in self.mpp_ratios)
        width = channels[0]
        self.ups = nn.ModuleList(
            [nn.Identity(), upsample(width, width), nn.Sequential(upsample(width, width), upsample(width, width))]
        )
        self.head = head(3 * width, width, out_channels)
        self.initialise()

    def encode_context(self, coarse: list[torch.Tensor], height: int, width: int) -> list[torch.Tensor]:
        context: list[torch.Tensor] = []
        for view, (encoder, decoder, up) in enumerate(zip(self.encoders, self.decoders, self.ups)):
            if view > 0:
                decoded = decoder(encoder(coarse[view - 1]))[-1]
                context.append(up(center_crop(decoded, height >> view, width >> view)))
        return context

    def forward_with_context(self, finest: torch.Tensor, context: list[torch.Tensor]) -> torch.Tensor:
        decoded = self.decoders[0](self.encoders[0](finest))[-1]
        return self.head(torch.cat([decoded, context[0], context[1]], dim=1))


class DMMNM3(SegmentationNetwork):
    """Multi-encoder, multi-decoder, multi-concatenation DMMN: three U-Nets of half width, the coarser two feeding the
    finest one's decoder.

    The coarser decoders reach the finest one's µm/px one level (10x) or two levels (5x) nearer their output. Their maps
    are centre-cropped and concatenated, never resampled.

    Args:
        out_channels: output channels, channel 0 ("unlabelled") included.
        channels: encoder widths, finest level first; at least four. The paper halves U-Net's.

    Shape:
        image ``(B, 9, H, W)`` in [0, 1], finest magnification first; H, W multiples of 32 ->
        logits ``(B, out_channels, H, W)``.

    Example:
        >>> network = DMMNM3(out_channels=3, channels=(4, 6, 8, 10))
        >>> network(torch.rand(1, 9, 64, 64)).shape
        torch.Size([1, 3, 64, 64])

    Source: Ho et al. 2021, Fig. 4e; 27,071,303 parameters (Table 2) with ``out_channels=7``.
    """

    @renamed_argument("num_classes", "out_channels", added=1)
    def __init__(self, *, out_channels: int = 7, channels: Sequence[int] = HALF_WIDTHS) -> None:
        super().__init__(_RATIOS)
        if len(channels) < 4:
            raise ValueError("DMMN-M3 needs at least four levels: the 5x decoder feeds two of them")
        depth = len(channels) - 1
        # The crop of the deepest 10x decoder map starts after 1/4 of it, which must be whole pixels.
        self.size_divisor = 2 ** (depth + 1)
        self.alignment, self.receptive_margin = 2 ** (depth + 2), RECEPTIVE_RADIUS * 2**depth
        self.encoder_20x = Encoder(3, channels)
        self.encoder_10x = Encoder(3, channels)
        self.encoder_5x = Encoder(3, channels)
        self.decoder_10x = Decoder(channels)
        self.decoder_5x = Decoder(channels)
        from_10x, from_5x = channels[:depth], [0, *channels[: depth - 1]]
        self.decoder_20x = Decoder(channels, [sum(pair) for pair in zip(from_10x, from_5x, strict=True)])
        self.head = head(channels[0], channels[0], out_channels)
        self.initialise()

    def encode_context(self, coarse: list[torch.Tensor], height: int, width: int) -> list[torch.Tensor]:
        maps_10x = self.decoder_10x(self.encoder_10x(coarse[0]))
        maps_5x = self.decoder_5x(self.encoder_5x(coarse[1]))
        depth = len(maps_10x)
        context: list[torch.Tensor] = []
        for index in range(depth):
            shift = depth - index
            context.append(center_crop(maps_10x[index], height >> shift, width >> shift))
            if index + 1 < depth:
                context.append(center_crop(maps_5x[index + 1], height >> shift, width >> shift))
        return context

    def forward_with_context(self, finest: torch.Tensor, context: list[torch.Tensor]) -> torch.Tensor:
        extra = [context[index : index + 2] for index in range(0, len(context), 2)]
        return self.head(self.decoder_20x(self.encoder_20x(finest), extra)[-1])
