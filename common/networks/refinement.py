"""Blocks of RefineNet (Lin et al. 2017) as Li et al. 2020 use them, and their fusions of two inputs."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

FUSIONS = ("attention", "concat", "add")


def conv1x1(in_channels: int, out_channels: int) -> nn.Conv2d:
    """1 x 1 convolution without bias."""
    return nn.Conv2d(in_channels, out_channels, 1, bias=False)


def conv3x3(in_channels: int, out_channels: int, bias: bool = False) -> nn.Conv2d:
    """3 x 3 convolution that keeps the size."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)


class ResidualConvUnit(nn.Module):
    """RCU: ReLU, 3 x 3 convolution, ReLU, 3 x 3 convolution, added to the input; no normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv3x3(channels, channels, bias=True)
        self.second = conv3x3(channels, channels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + self.second(torch.relu(self.first(torch.relu(features))))


class ChainedResidualPooling(nn.Module):
    """CRP: ReLU, then a chain of max-poolings (5 x 5, which keep the size) and convolutions, every link of which is
    added.

    Args:
        channels: in and out.
        kernel: of the convolutions, 1 or 3.
        links: of the chain.
    """

    def __init__(self, channels: int, kernel: int = 1, links: int = 4) -> None:
        super().__init__()
        conv = {1: conv1x1, 3: conv3x3}[kernel]
        self.convolutions = nn.ModuleList(conv(channels, channels) for _ in range(links))
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        total = torch.relu(features)
        link = total
        for convolution in self.convolutions:
            link = convolution(self.pool(link))
            total = total + link
        return total


class AddFusion(nn.Module):
    """x_s + o + x_f."""

    def of_context(self, context: torch.Tensor) -> torch.Tensor:
        """What of the context's map enters the fusion."""
        return context

    def forward(self, maps: list[torch.Tensor], context: torch.Tensor) -> torch.Tensor:
        total = context
        for features in maps:
            total = total + features
        return total


class ConcatFusion(nn.Module):
    """x_s, o and x_f side by side, a 1 x 1 convolution, ReLU.

    Args:
        channels: of each of them, and out.
        inputs: how many they are.
    """

    def __init__(self, channels: int, inputs: int) -> None:
        super().__init__()
        self.mix = conv1x1(inputs * channels, channels)

    def of_context(self, context: torch.Tensor) -> torch.Tensor:
        """What of the context's map enters the fusion."""
        return context

    def forward(self, maps: list[torch.Tensor], context: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.mix(torch.cat(maps + [context], dim=1)))


class AttentionFusion(nn.Module):
    """W * x_s + o, with one weight W in 0 to 1 per channel from the means of x_s, o and x_f (eqs. 6 to 8).

    The context enters through these weights only.

    Args:
        channels: of each of them, and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = conv1x1(3 * channels, channels)
        self.excite = conv1x1(channels, channels)

    def of_context(self, context: torch.Tensor) -> torch.Tensor:
        """What of the context's map enters the fusion: its mean."""
        return functional.adaptive_avg_pool2d(context, 1)

    def forward(self, maps: list[torch.Tensor], context: torch.Tensor) -> torch.Tensor:
        sliced, previous = maps
        means = [functional.adaptive_avg_pool2d(sliced, 1), functional.adaptive_avg_pool2d(previous, 1), context]
        weights = torch.sigmoid(self.excite(torch.relu(self.squeeze(torch.cat(means, dim=1)))))
        return weights * sliced + previous


def fusion_of(fusion: str, channels: int, first: bool) -> nn.Module:
    """The fusion of one block; the first has no block before it, and with attention fuses as concat does (released
    code).

    Raises:
        ValueError: another ``fusion``.
    """
    if fusion not in FUSIONS:
        raise ValueError(f"fusion must be one of {', '.join(FUSIONS)}, not {fusion!r}")
    if fusion == "add":
        return AddFusion()
    if fusion == "attention" and not first:
        return AttentionFusion(channels)
    return ConcatFusion(channels, 2 if first else 3)
