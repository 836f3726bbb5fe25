"""What MONAI's AdversarialTrainer needs to train a style: it takes what the generator is given for what is real."""

from __future__ import annotations

from typing import Any

import torch
from monai.engines.utils import PrepareBatch
from monai.inferers import Inferer
from monai.losses import PatchAdversarialLoss, SSIMLoss
from torch import nn


class PreparePair(PrepareBatch):
    """A batch of :class:`StylePairs`: patches of the wanted style are what is real, the patches to change what the
    generator's output must stay like."""

    def __call__(
        self, batchdata: dict[str, Any], device: Any = None, non_blocking: bool = False, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor, tuple, dict[str, torch.Tensor]]:
        image, style = (batchdata[key].to(device, non_blocking=non_blocking) for key in ("image", "style"))
        return style, image, (), {"image": image}


class StyleGeneratorInferer(Inferer):
    """The generator on the patches to change."""

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        return network(kwargs["image"])


class StyleDiscriminatorInferer(Inferer):
    """The logits of MONAI's PatchDiscriminator, which gives its features before them."""

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        return network(inputs)[-1]


class GreySSIMLoss(nn.Module):
    """1 - SSIM of two pictures in grey: the tissue's structure, whatever its colours.

    Args:
        weight: of the loss.

    Source: Modi et al. 2024, eq. 2, in MONAI's (the usual) form: the paper prints σ for its squares.
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight, self.ssim = weight, SSIMLoss(spatial_dims=2, data_range=1.0)

    def forward(self, made: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        return self.weight * self.ssim(made.mean(dim=1, keepdim=True), image.mean(dim=1, keepdim=True))


class PatchAdversarial(nn.Module):
    """MONAI's least-squares adversarial loss in the forms that its AdversarialTrainer calls: of fakes for the
    generator, of reals and fakes for the discriminator."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = PatchAdversarialLoss(criterion="least_squares")

    def forward(self, logits: torch.Tensor, fakes: torch.Tensor | None = None) -> torch.Tensor:
        if fakes is None:
            return self.loss(logits, target_is_real=True, for_discriminator=False)
        real = self.loss(logits, target_is_real=True, for_discriminator=True)
        return 0.5 * (real + self.loss(fakes, target_is_real=False, for_discriminator=True))
