"""Batches, inferers and losses for training a style with MONAI's AdversarialTrainer.

The trainer takes the generator's input for the real images; here the two differ.
"""

from __future__ import annotations

from typing import Any

import torch
from monai.engines.utils import PrepareBatch
from monai.inferers import Inferer
from monai.losses import PatchAdversarialLoss, SSIMLoss
from torch import nn


class PreparePair(PrepareBatch):
    """Prepares a batch of :class:`StylePairs`: patches of the wanted style are the real images. The patches to
    change are the generator's input, whose structure its output must keep."""

    def __call__(
        self, batchdata: dict[str, Any], device: Any = None, non_blocking: bool = False, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor, tuple, dict[str, torch.Tensor]]:
        image, style = (batchdata[key].to(device, non_blocking=non_blocking) for key in ("image", "style"))
        return style, image, (), {"image": image}


class StyleGeneratorInferer(Inferer):
    """Runs the generator on the patches to change."""

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        return network(kwargs["image"])


class StyleDiscriminatorInferer(Inferer):
    """Returns the logits of MONAI's PatchDiscriminator, the last of its outputs; the others are features."""

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        return network(inputs)[-1]


class GreySSIMLoss(nn.Module):
    """1 - SSIM of two images in grey: compares the structure of tissue, not its colours.

    Args:
        weight: factor of the loss.

    Source: Modi et al. 2024, eq. 2, in the usual form, which is MONAI's: the paper prints σ for σ².

    Example::

        loss = GreySSIMLoss()(torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64))
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight, self.ssim = weight, SSIMLoss(spatial_dims=2, data_range=1.0)

    def forward(self, made: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        return self.weight * self.ssim(made.mean(dim=1, keepdim=True), image.mean(dim=1, keepdim=True))


class PatchAdversarial(nn.Module):
    """MONAI's least-squares adversarial loss as its AdversarialTrainer calls it.

    It is called on fakes for the generator, on reals and fakes for the discriminator.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loss = PatchAdversarialLoss(criterion="least_squares")

    def forward(self, logits: torch.Tensor, fakes: torch.Tensor | None = None) -> torch.Tensor:
        if fakes is None:
            return self.loss(logits, target_is_real=True, for_discriminator=False)
        real = self.loss(logits, target_is_real=True, for_discriminator=True)
        return 0.5 * (real + self.loss(fakes, target_is_real=False, for_discriminator=True))
