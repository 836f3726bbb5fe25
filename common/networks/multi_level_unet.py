"""Multi-level U-Net, Modi et al. 2024: two U-Nets of EfficientNets, the coarse one merged into the fine one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from ..renamed import renamed_argument
from .base import SegmentationNetwork, center_crop
from .blocks import conv_bn_relu
from .efficientnet import DECODER_CHANNELS, SIZE_DIVISOR, EfficientNetEncoder, UpSteps, check_decoder_channels

MERGES = ("compress", "crop")
RATIOS = (2, 4, 8, 16)
# Stride of the fine encoder, which ends before its last two stages ("second last encoder block").
_STRIDE = 16
_MERGED = 512
# Channels between the two branches' logits and the final ones.
_FINAL = 16


class Merge(nn.Module):
    """Merge of a map of the coarse decoder into a map of the fine branch, by 1 x 1 convolutions.

    Args:
        fine, coarse: channels of the two maps.
        out_channels: channels of the result.
        halvings: the coarse map has 2^halvings times as many pixels a side as the fine one, at the same µm/px.
        merge: ``"compress"``: all of the coarse field, halved step by step while widths double to ``out_channels``;
            ``"crop"``: its centre, which shows what the fine map shows.

    Shape:
        fine ``(B, f, h, w)``, coarse ``(B, c, h · 2^halvings, w · 2^halvings)`` -> ``(B, out_channels, h, w)``.

    Source: Modi et al. 2024, Fig. 10. The text calls the merge pixel-aligned. Cropping is; compressing a field that is
    2^halvings times as wide to the fine map's pixels is not. The paper does not say how the maps are halved: here by
    means of 2 x 2 pixels.
    """

    def __init__(self, fine: int, coarse: int, out_channels: int, halvings: int, merge: str = "compress") -> None:
        super().__init__()
        if merge not in MERGES:
            raise ValueError(f"merge must be one of {', '.join(MERGES)}, not {merge!r}")
        self.crop = merge == "crop"
        widths = [coarse]
        if not self.crop:
            widths += [max(1, out_channels >> (halvings - step)) for step in range(1, halvings + 1)]
        self.compress = nn.ModuleList(
            nn.Sequential(conv_bn_relu(i, o, 1, bias=False), nn.AvgPool2d(2)) for i, o in pairwise(widths)
        )
        self.mix = nn.Sequential(
            conv_bn_relu(fine + widths[-1], out_channels, 1, bias=False),
            conv_bn_relu(out_channels, out_channels, 1, bias=False),
        )

    def forward(self, fine: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
        if self.crop:
            coarse = center_crop(coarse, fine.shape[2], fine.shape[3])
        for step in self.compress:
            coarse = step(coarse)
        return self.mix(torch.cat([fine, coarse], dim=1))


class MultiLevelUNet(SegmentationNetwork):
    """A U-Net of a coarse view and one of a fine view, merged where both maps have the same µm/px. Their outputs are
    combined.

    It runs patch by patch: its encoders' squeeze-and-excitation weighs channels by means over the whole view, and
    ``"compress"`` lays all of the coarse view over the fine one.

    Args:
        out_channels: output channels.
        encoder: EfficientNet of both views; "efficientnet-b4" is the paper's.
        merge: ``"compress"`` (the paper's) or ``"crop"`` (aligned); see :class:`Merge`.
        ratio: µm/px of the coarse view divided by the fine one's, a power of two: 4 for the paper's levels 0/2 and 1/3,
            8 for its 0/3 and 1/4.
        decoder_channels: widths of the coarse decoder, coarsest first; the fine one has the last four.
        merges: 1 (before the fine decoder) or 3 (also after each of its first two steps, into its own width).
        merged_channels: width of the first merge.
        momentum: see :class:`EfficientNetEncoder`.

    Shape:
        image ``(B, 6, H, W)`` in [0, 1], fine view first; H, W multiples of 32 -> logits ``(B, out_channels, H, W)`` of
        the fine view.

    Raises:
        ValueError: arguments that do not fit together.

    Example:
        >>> widths = (8, 6, 6, 4, 4)
        >>> network = MultiLevelUNet(3, "efficientnet-b0", decoder_channels=widths, merged_channels=8).eval()
        >>> network(torch.rand(1, 6, 64, 64)).shape
        torch.Size([1, 3, 64, 64])

    Source: Modi et al. 2024, Figs. 9 and 10. The paper does not state the widths; these have 24,792,817 parameters with
    efficientnet-b4 (the paper: "only 25 million").
    """

    @renamed_argument("num_classes", "out_channels")
    def __init__(
        self,
        out_channels: int = 3,
        encoder: str = "efficientnet-b4",
        merge: str = "compress",
        ratio: int = 4,
        decoder_channels: Sequence[int] = DECODER_CHANNELS,
        merges: int = 1,
        merged_channels: int = _MERGED,
        momentum: float = 0.01,
    ) -> None:
        super().__init__((1, ratio))
        _check_merges(ratio, merges)
        check_decoder_channels(decoder_channels)
        self.size_divisor = SIZE_DIVISOR
        # Number of the coarse decoder's map that the first merge takes.
        self.ratio, self.first = ratio, ratio.bit_length() - 1
        self.coarse_encoder = EfficientNetEncoder(encoder, momentum=momentum)
        *skips, deepest = self.coarse_encoder.channels
        self.coarse_decoder = UpSteps(deepest, skips[::-1], decoder_channels)
        self.coarse_head = nn.Conv2d(decoder_channels[-1], out_channels, 1)
        self.fine_encoder = EfficientNetEncoder(encoder, 5, momentum)
        *skips, deepest = self.fine_encoder.channels
        self.fine_decoder = UpSteps(merged_channels, skips[::-1], decoder_channels[1:])
        self.fine_head = nn.Conv2d(decoder_channels[-1], out_channels, 1)
        # The coarse decoder's maps (strides 16 to 1) whose stride is that of the fine map (16, 8, 4) divided by ratio.
        fine = [deepest, *decoder_channels[1:3]][:merges]
        merged = [merged_channels, *decoder_channels[1:3]][:merges]
        coarse = [decoder_channels[self.first + number] for number in range(merges)]
        self.merges = nn.ModuleList(Merge(f, c, o, self.first, merge) for f, c, o in zip(fine, coarse, merged))
        self.final = nn.Sequential(
            conv_bn_relu(2 * out_channels, _FINAL, 1, bias=False), nn.Conv2d(_FINAL, out_channels, 1)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.forward_branches(image)[0]

    @torch.jit.export
    def forward_branches(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Return the outputs that are trained (eq. 7): logits of the fine view from both branches together, of the fine
        view, and of the coarse view."""
        self.check_input(image)
        coarse_maps = self.coarse_encoder(image[:, 3:])
        context = self.coarse_decoder(coarse_maps[-1], coarse_maps[:-1][::-1])
        coarse = self.coarse_head(context[-1])
        fine_maps = self.fine_encoder(image[:, :3])
        fine = self.fine_head(self._decode_fine(fine_maps, context))
        height, width = image.shape[2], image.shape[3]
        centre = functional.interpolate(
            center_crop(coarse, height // self.ratio, width // self.ratio),
            size=[height, width],
            mode="bilinear",
            align_corners=False,
        )
        return [self.final(torch.cat([fine, centre], dim=1)), fine, coarse]

    def _decode_fine(self, maps: list[torch.Tensor], context: list[torch.Tensor]) -> torch.Tensor:
        """Return the fine branch's last map."""
        skips = maps[:-1][::-1]
        current = maps[-1]
        for number, merge in enumerate(self.merges):
            if number == 0:
                current = merge(current, context[self.first])
        for done, step in enumerate(self.fine_decoder.steps):
            current = step(current, skips[done] if done < len(skips) else None)
            for number, merge in enumerate(self.merges):
                if number == done + 1:
                    current = merge(current, context[self.first + number])
        return current


def _check_merges(ratio: int, merges: int) -> None:
    if ratio not in RATIOS:
        raise ValueError(f"ratio must be one of {', '.join(map(str, RATIOS))}, not {ratio}")
    # Every merge needs a coarse decoder map of the fine map's stride divided by ratio.
    most = (_STRIDE // ratio).bit_length()
    if merges not in (1, 3) or merges > most:
        raise ValueError(
            f"merges must be 1 or 3, and with ratio {ratio} at most {most}: the coarse decoder has no map of finer "
            f"stride; not {merges}"
        )
