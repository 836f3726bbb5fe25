"""EfficientNets (Tan and Le 2019), MONAI's, as encoders of U-Nets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets import EfficientNetBN
from torch import nn
from torch.nn import functional

from ..renamed import renamed_argument
from .base import SegmentationNetwork
from .blocks import conv_bn_relu

DECODER_CHANNELS = (256, 128, 64, 32, 16)
ENCODERS = tuple(f"efficientnet-b{number}" for number in range(8))
# Stride of the deepest map.
SIZE_DIVISOR = 32
# Stages of an EfficientNet whose maps are taken: the last one at each stride from 4 on.
_TAKEN = (1, 2, 4, 6)


class EfficientNetEncoder(nn.Module):
    """An EfficientNet without its head.

    Args:
        name: one of :data:`ENCODERS`.
        stages: number of its stages, at most seven; five end with stride 16.
        momentum: momentum of the running statistics of batch normalisation. EfficientNet's needs hundreds of steps to
            follow.

    Raises:
        ValueError: unknown network.

    Shape:
        ``(B, 3, H, W)`` -> maps at strides 2 (the stem's), 4, 8, 16 and 32.
    """

    def __init__(self, name: str = "efficientnet-b4", stages: int = 7, momentum: float = 0.01) -> None:
        super().__init__()
        if name not in ENCODERS:
            raise ValueError(f"encoder must be one of {', '.join(ENCODERS)}, not {name!r}")
        network = EfficientNetBN(name, pretrained=False, norm=("batch", {"eps": 1e-3, "momentum": momentum}))
        # The memory-efficient form is a Python function, which neither scripts nor exports.
        network.set_swish(memory_efficient=False)
        self.stem = nn.Sequential(network._conv_stem_padding, network._conv_stem, network._bn0, network._swish)
        self.stages = nn.ModuleList(list(network._blocks)[:stages])
        self.channels = [network._conv_stem.out_channels]
        self.channels += [network._blocks_args[stage].output_filters for stage in _TAKEN if stage < stages]

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        current = self.stem(image)
        maps = [current]
        for number, stage in enumerate(self.stages):
            current = stage(current)
            # _TAKEN, which TorchScript does not know.
            if number in (1, 2, 4, 6):
                maps.append(current)
        return maps


class UpStep(nn.Module):
    """One step of a decoder: nearest-neighbour upsampling by 2, concatenation with the encoder's map, two 3 x 3
    convolutions with batch normalisation and ReLU.

    Args:
        in_channels: channels of the map that is upsampled.
        skip: channels of the encoder's map; 0 if there is none.
        out_channels: channels of the result.
    """

    def __init__(self, in_channels: int, skip: int, out_channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            conv_bn_relu(in_channels + skip, out_channels, bias=False),
            conv_bn_relu(out_channels, out_channels, bias=False),
        )

    def forward(self, features: torch.Tensor, skip: torch.Tensor | None) -> torch.Tensor:
        upsampled = functional.interpolate(features, scale_factor=2.0, mode="nearest")
        return self.block(upsampled if skip is None else torch.cat([upsampled, skip], dim=1))


class UpSteps(nn.Module):
    """A decoder of :class:`UpStep`.

    Args:
        in_channels: channels of the deepest map.
        skips: channels of the encoder's maps, deepest first; the last step has none.
        channels: output channels of each step.
    """

    def __init__(self, in_channels: int, skips: Sequence[int], channels: Sequence[int]) -> None:
        super().__init__()
        widths = [in_channels, *channels]
        self.steps = nn.ModuleList(
            UpStep(widths[step], skip, widths[step + 1]) for step, skip in enumerate([*skips, 0])
        )

    def forward(self, deepest: torch.Tensor, skips: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the map after each step, the last at full resolution.

        Args:
            deepest: the encoder's deepest map.
            skips: its other maps, deepest first.
        """
        outputs: list[torch.Tensor] = []
        current = deepest
        for number, step in enumerate(self.steps):
            current = step(current, skips[number] if number < len(skips) else None)
            outputs.append(current)
        return outputs


def check_decoder_channels(channels: Sequence[int]) -> None:
    """Raise ValueError unless there are five, one for each doubling from stride 32."""
    if len(channels) != len(DECODER_CHANNELS):
        raise ValueError(f"decoder_channels must be {len(DECODER_CHANNELS)} widths, coarsest first, not {channels}")


class EfficientNetUNet(SegmentationNetwork):
    """U-Net of one view with an EfficientNet as encoder: the base model of iterative training.

    It runs patch by patch: its encoder's squeeze-and-excitation weighs channels by means over the whole view.

    Args:
        out_channels: output channels.
        encoder: one of :data:`ENCODERS`.
        decoder_channels: widths of the decoder's steps, coarsest first.
        momentum: see :class:`EfficientNetEncoder`.

    Shape:
        image ``(B, 3, H, W)`` in [0, 1]; H, W multiples of 32 -> logits ``(B, out_channels, H, W)``.

    Example:
        >>> network = EfficientNetUNet(out_channels=3, decoder_channels=(8, 6, 6, 4, 4)).eval()
        >>> network(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 3, 64, 64])

    Source: Modi et al. 2024, Table 8 (U-Net B0); encoder and decoder are those of its low-resolution branch.
    """

    @renamed_argument("num_classes", "out_channels")
    def __init__(
        self,
        out_channels: int = 3,
        encoder: str = "efficientnet-b0",
        decoder_channels: Sequence[int] = DECODER_CHANNELS,
        momentum: float = 0.01,
    ) -> None:
        super().__init__()
        self.size_divisor = SIZE_DIVISOR
        check_decoder_channels(decoder_channels)
        self.encoder = EfficientNetEncoder(encoder, momentum=momentum)
        *skips, deepest = self.encoder.channels
        self.decoder = UpSteps(deepest, skips[::-1], decoder_channels)
        self.head = nn.Conv2d(decoder_channels[-1], out_channels, 1)

    def forward_with_context(self, finest: torch.Tensor, context: list[torch.Tensor]) -> torch.Tensor:
        maps = self.encoder(finest)
        return self.head(self.decoder(maps[-1], maps[:-1][::-1])[-1])
