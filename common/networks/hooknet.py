"""HookNet, van Rijthoven et al. 2021, the baseline of Modi et al. 2024."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from ..renamed import renamed_argument
from .base import SegmentationNetwork, center_crop


def _conv_relu_bn_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return two valid 3 x 3 convolutions, each followed by ReLU and batch normalisation (in this order)."""
    layers: list[nn.Module] = []
    for width in (in_channels, out_channels):
        layers += [nn.Conv2d(width, out_channels, 3), nn.ReLU(inplace=True), nn.BatchNorm2d(out_channels)]
    return nn.Sequential(*layers)


class HookBranch(nn.Module):
    """A U-Net of valid convolutions, one of HookNet's two branches.

    Args:
        out_channels: output channels.
        filters: n of the finest level. Levels of the encoder have n, 2n, 4n, …, the bottleneck 2n(depth + 1), the
            decoder 2n·depth and halves of it.
        depth: number of poolings.
        hook_channels: channels of the other branch's map that is concatenated with the bottleneck.
    """

    def __init__(self, out_channels: int, filters: int, depth: int, hook_channels: int = 0) -> None:
        super().__init__()
        encoder = [filters << level for level in range(depth)]
        bottleneck = 2 * filters * (depth + 1)
        self.widths = [2 * filters * depth >> level for level in range(depth)]
        self.encoder = nn.ModuleList(_conv_relu_bn_block(i, o) for i, o in pairwise([3, *encoder]))
        self.bottleneck = _conv_relu_bn_block(encoder[-1], bottleneck)
        below = [bottleneck + hook_channels, *self.widths]
        self.ups = nn.ModuleList(nn.Sequential(nn.Conv2d(i, o, 3), nn.ReLU(inplace=True)) for i, o in pairwise(below))
        self.decoder = nn.ModuleList(_conv_relu_bn_block(s + o, o) for s, o in zip(encoder[::-1], self.widths))
        self.head = nn.Conv2d(self.widths[-1], out_channels, 1)

    def forward(self, image: torch.Tensor, hook: torch.Tensor | None) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the logits and the decoder's maps, coarsest first.

        Args:
            image: ``(B, 3, H, W)``.
            hook: the other branch's map, which is cropped to the bottleneck; None if there is none.
        """
        skips: list[torch.Tensor] = []
        current = image
        for block in self.encoder:
            current = block(current)
            skips.append(current)
            current = functional.max_pool2d(current, 2)
        current = self.bottleneck(current)
        if hook is not None:
            current = torch.cat([center_crop(hook, current.shape[2], current.shape[3]), current], dim=1)
        maps: list[torch.Tensor] = []
        for level, (up, block) in enumerate(zip(self.ups, self.decoder)):
            current = up(functional.interpolate(current, scale_factor=2.0, mode="nearest"))
            skip = skips[len(skips) - 1 - level]
            current = block(torch.cat([center_crop(skip, current.shape[2], current.shape[3]), current], dim=1))
            maps.append(current)
        return self.head(current), maps


class HookNet(SegmentationNetwork):
    """Two U-Nets of valid convolutions. A map of the coarse one's decoder is hooked into the fine one's bottleneck,
    where both have the same µm/px.

    Args:
        out_channels: output channels.
        ratio: µm/px of the coarse view divided by the fine one's, a power of two up to 2^depth.
        filters: n; see :class:`HookBranch`.
        depth: number of poolings.

    Shape:
        image ``(B, 6, H, W)`` in [0, 1], fine view first -> logits ``(B, out_channels, h, w)`` of the fine view's
        centre. With ``depth=4``, H = 284 + 32k and h = 70 + 32k.

    Example:
        >>> network = HookNet(out_channels=3, filters=2)
        >>> network(torch.rand(1, 6, 284, 284)).shape
        torch.Size([1, 3, 70, 70])

    Source: van Rijthoven et al. 2021, Figs. 2 and 3. Filters, hook and the order of activation and normalisation are
    those of its released TensorFlow code.
    """

    @renamed_argument("num_classes", "out_channels")
    def __init__(self, out_channels: int = 3, ratio: int = 4, filters: int = 16, depth: int = 4) -> None:
        super().__init__((1, ratio))
        if ratio.bit_count() != 1 or not 2 <= ratio <= 2**depth:
            raise ValueError(f"ratio must be a power of two from 2 to {2**depth}, not {ratio}")
        self.size_divisor, self.depth = 4, depth
        # The coarse decoder's maps have strides 2^(depth - 1) to 1; this is the number of the one of 2^depth / ratio.
        self.hook = ratio.bit_length() - 2
        self.coarse = HookBranch(out_channels, filters, depth)
        self.fine = HookBranch(out_channels, filters, depth, self.coarse.widths[self.hook])
        self.initialise()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.forward_branches(image)[0]

    @torch.jit.export
    def forward_branches(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Return the outputs that are trained: logits of the fine view's centre and of the coarse view's centre."""
        self.check_input(image)
        self._check_sides(image)
        coarse, maps = self.coarse(image[:, 3:], None)
        fine, _ = self.fine(image[:, :3], maps[self.hook])
        return [fine, coarse]

    def _check_sides(self, image: torch.Tensor) -> None:
        for side in image.shape[2:]:
            lost, level = 4, side
            for _ in range(self.depth):
                level = level - lost
                if level <= 0 or level % 2 != 0:
                    raise ValueError(
                        f"image is {image.shape[2]} x {image.shape[3]} pixels; valid convolutions need sides that stay "
                        "even at every pooling: 284, 316, 348, … with a depth of 4"
                    )
                level = level // 2
            # The hooked map is cropped to the bottleneck by whole pixels on either side.
            if (level - lost) % 2 != 0:
                raise ValueError(
                    f"image is {image.shape[2]} x {image.shape[3]} pixels; sides that the hook fits are 284, 316, 348, "
                    "… with a depth of 4"
                )
