"""Blocks of RefineNet (Lin et al. 2017) as Li et al. 2020 use them, and their fusions of two inputs."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from .blocks import conv

FUSIONS = ("attention", "concat", "add")


class ResidualConvUnit(nn.Module):
    """RCU: ReLU, 3 x 3 convolution, ReLU, 3 x 3 convolution, added to the input; no normalisation.

    Shape:
        ``(B, c, H, W)`` -> the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv(channels, channels)
        self.second = conv(channels, channels, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + self.second(torch.relu(self.first(torch.relu(features))))


class ChainedResidualPooling(nn.Module):
    """CRP: ReLU, then a chain of max-poolings (5 x 5, stride 1) and convolutions. Every link's output is added.

    Args:
        channels: input and output channels.
        kernel_size: kernel size of the convolutions, 1 or 3.
        links: length of the chain.

    Shape:
        ``(B, c, H, W)`` -> the same.
    """

    def __init__(self, channels: int, kernel_size: int = 1, links: int = 4) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(conv(channels, channels, kernel_size, bias=False) for _ in range(links))
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        total = torch.relu(features)
        link = total
        for convolution in self.convolutions:
            link = convolution(self.pool(link))
            total = total + link
        return total


class AddFusion(nn.Module):
    """Sum of the slice's map x_s, the previous block's output o and the context's map x_f."""

    def prepare_context(self, context: torch.Tensor) -> torch.Tensor:
        """Return the part of the context's map that enters the fusion: all of it."""
        return context

    def forward(self, maps: list[torch.Tensor], context: torch.Tensor) -> torch.Tensor:
        total = context
        for features in maps:
            total = total + features
        return total


class ConcatFusion(nn.Module):
    """Concatenation of x_s, o and x_f, a 1 x 1 convolution and ReLU.

    Args:
        channels: channels of each map and of the output.
        inputs: number of maps.
    """

    def __init__(self, channels: int, inputs: int) -> None:
        super().__init__()
        self.mix = conv(inputs * channels, channels, 1, bias=False)

    def prepare_context(self, context: torch.Tensor) -> torch.Tensor:
        """Return the part of the context's map that enters the fusion: all of it."""
        return context

    def forward(self, maps: list[torch.Tensor], context: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.mix(torch.cat(maps + [context], dim=1)))


class AttentionFusion(nn.Module):
    """W · x_s + o, with one weight W in 0 to 1 per channel from the means of x_s, o and x_f (eqs. 6 to 8).

    The context enters through these weights only.

    Args:
        channels: channels of each map and of the output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = conv(3 * channels, channels, 1, bias=False)
        self.excite = conv(channels, channels, 1, bias=False)

    def prepare_context(self, context: torch.Tensor) -> torch.Tensor:
        """Return the part of the context's map that enters the fusion: its mean, ``(B, c, 1, 1)``."""
        return functional.adaptive_avg_pool2d(context, 1)

    def forward(self, maps: list[torch.Tensor], context: torch.Tensor) -> torch.Tensor:
        features, previous = maps
        means = [functional.adaptive_avg_pool2d(features, 1), functional.adaptive_avg_pool2d(previous, 1), context]
        weights = torch.sigmoid(self.excite(torch.relu(self.squeeze(torch.cat(means, dim=1)))))
        return weights * features + previous


def fusion_block(channels: int, fusion: str, first: bool) -> nn.Module:
    """Return the fusion of one decoder block.

    Args:
        channels: channels of each map and of the output.
        fusion: one of :data:`FUSIONS`.
        first: whether it is the deepest block. There is no block before it, and with ``"attention"`` it fuses as
            ``"concat"`` does (released code).

    Raises:
        ValueError: unknown ``fusion``.
    """
    if fusion not in FUSIONS:
        raise ValueError(f"fusion must be one of {', '.join(FUSIONS)}, not {fusion!r}")
    if fusion == "add":
        return AddFusion()
    if fusion == "attention" and not first:
        return AttentionFusion(channels)
    return ConcatFusion(channels, 2 if first else 3)
