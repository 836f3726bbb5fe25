"""ResNets as encoders, in torchvision's names and shapes, so that its weights fit."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets.resnet import ResNet
from torch import nn
from torch.nn import functional

WIDTHS = (64, 128, 256, 512)
# Kind of block, blocks per stage, and how many times a stage's width its output has.
_DEPTHS = {
    "resnet18": ("basic", [2, 2, 2, 2], 1),
    "resnet34": ("basic", [3, 4, 6, 3], 1),
    "resnet50": ("bottleneck", [3, 4, 6, 3], 4),
    "resnet101": ("bottleneck", [3, 4, 23, 3], 4),
    "resnet152": ("bottleneck", [3, 8, 36, 3], 4),
}
# Of the images that torchvision's weights were trained on.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PointwiseStrided(nn.Conv2d):
    """1 x 1 convolution with a stride, of the pixels that it sees.

    The backward pass of torch 2.13's own writes beyond its memory on the CPU where maps are laid out channels last,
    which ends the process.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, stride, bias=bias)
        self.step = stride

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(features[:, :, :: self.step, :: self.step], self.weight, self.bias)


def resnet(name: str, channels: Sequence[int] = WIDTHS) -> ResNet:
    """A ResNet without its classifier.

    Args:
        name: ``"resnet18"``, ``"resnet34"``, ``"resnet50"``, ``"resnet101"`` or ``"resnet152"``.
        channels: widths of its four stages; those of bottlenecks put out four times as many.

    Raises:
        ValueError: another name.
    """
    if name not in _DEPTHS:
        raise ValueError(f"an encoder must be one of {', '.join(_DEPTHS)}, not {name!r}")
    block, layers, expansion = _DEPTHS[name]
    trunk = ResNet(
        block, layers, list(channels), spatial_dims=2, conv1_t_stride=2, feed_forward=False, bias_downsample=False
    )
    for stage in (2, 3, 4):
        shortcut = trunk.get_submodule(f"layer{stage}.0.downsample")
        narrow, wide = (channels[index] * expansion for index in (stage - 2, stage - 1))
        shortcut.register_module("0", PointwiseStrided(narrow, wide, 2, bias=False))
    return trunk


class ResNetEncoder(nn.Module):
    """``(B, 3, H, W)`` in [0, 1] -> the maps of a ResNet's four stages, of strides 4, 8, 16, 32.

    The image is normalised by ImageNet's mean and standard deviation first, as the weights to begin with expect.

    Args:
        name, channels: see :func:`resnet`.

    Attributes:
        widths: channels of the maps.
    """

    def __init__(self, name: str, channels: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.resnet = resnet(name, channels)
        self.widths = [width * _DEPTHS[name][2] for width in channels]
        self.frozen = False
        for statistic, values in (("mean", _MEAN), ("std", _STD)):
            self.register_buffer(statistic, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        image = (image - self.mean) / self.std  # type: ignore[operator]
        first = self.resnet.layer1(self.resnet.maxpool(self.resnet.act(self.resnet.bn1(self.resnet.conv1(image)))))
        second = self.resnet.layer2(first)
        third = self.resnet.layer3(second)
        return [first, second, third, self.resnet.layer4(third)]

    def freeze_batch_normalisation(self) -> None:
        """From now on batch normalisation stays as it is, in training too: statistics, scales and shifts."""
        self.frozen = True
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> ResNetEncoder:
        # Nothing else in it behaves otherwise in training.
        return super().train(mode and not self.frozen)


def freeze_batch_normalisation(network: nn.Module, encoders: Sequence[str]) -> None:
    """Freeze that of some encoders; see :meth:`ResNetEncoder.freeze_batch_normalisation`.

    Args:
        network: whose encoders.
        encoders: their names in the network.

    Raises:
        ValueError: the network has no encoder of a name.
    """
    for name in encoders:
        encoder = getattr(network, name, None)
        if not isinstance(encoder, ResNetEncoder):
            raise ValueError(f"{type(network).__name__} has no encoder {name!r} whose batch normalisation to freeze")
        encoder.freeze_batch_normalisation()
