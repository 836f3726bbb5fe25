"""ResNets as encoders, in torchvision's names and shapes, so that its weights fit."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets.resnet import ResNet
from torch import nn

from .pointwise import PointwiseStrided

WIDTHS = (64, 128, 256, 512)
# Kind of block, blocks per stage, and output channels of a stage in multiples of its width.
_DEPTHS = {
    "resnet18": ("basic", [2, 2, 2, 2], 1),
    "resnet34": ("basic", [3, 4, 6, 3], 1),
    "resnet50": ("bottleneck", [3, 4, 6, 3], 4),
    "resnet101": ("bottleneck", [3, 4, 23, 3], 4),
    "resnet152": ("bottleneck", [3, 8, 36, 3], 4),
}
# Statistics of the images that torchvision's weights were trained on.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def resnet(name: str, channels: Sequence[int] = WIDTHS) -> ResNet:
    """Return a ResNet without its classifier.

    Args:
        name: ``"resnet18"``, ``"resnet34"``, ``"resnet50"``, ``"resnet101"`` or ``"resnet152"``.
        channels: widths of its four stages; those of bottlenecks have four times as many output channels.

    Raises:
        ValueError: unknown name.
    """
    if name not in _DEPTHS:
        raise ValueError(f"an encoder must be one of {', '.join(_DEPTHS)}, not {name!r}")
    block, layers, expansion = _DEPTHS[name]
    network = ResNet(
        block, layers, list(channels), spatial_dims=2, conv1_t_stride=2, feed_forward=False, bias_downsample=False
    )
    for stage in (2, 3, 4):
        shortcut = network.get_submodule(f"layer{stage}.0.downsample")
        narrow, wide = (channels[index] * expansion for index in (stage - 2, stage - 1))
        shortcut.register_module("0", PointwiseStrided(narrow, wide, 2, bias=False))
    return network


class ResNetEncoder(nn.Module):
    """A ResNet without its classifier.

    It normalises the image by ImageNet's mean and standard deviation first, as torchvision's weights expect.

    Args:
        name, channels: see :func:`resnet`.

    Attributes:
        widths: channels of the maps.

    Shape:
        ``(B, 3, H, W)`` in [0, 1] -> the maps of the four stages, of strides 4, 8, 16 and 32.
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

    def freeze_batch_norm(self) -> None:
        """Keep statistics, scales and shifts of batch normalisation unchanged from now on, also in training."""
        self.frozen = True
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> ResNetEncoder:
        # Only batch normalisation behaves differently in training.
        return super().train(mode and not self.frozen)


def freeze_batch_norm(network: nn.Module, encoders: Sequence[str]) -> None:
    """Freeze the batch normalisation of some encoders; see :meth:`ResNetEncoder.freeze_batch_norm`.

    Args:
        network: the network.
        encoders: attribute names of its encoders.

    Raises:
        ValueError: the network has no encoder of such a name.
    """
    for name in encoders:
        encoder = getattr(network, name, None)
        if not isinstance(encoder, ResNetEncoder):
            raise ValueError(f"{type(network).__name__} has no encoder {name!r} whose batch normalisation to freeze")
        encoder.freeze_batch_norm()
