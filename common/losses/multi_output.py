"""Cross entropy and Dice loss, weighted by class, over one or several supervised outputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import distributed, nn
from torch.distributed.nn import functional as distributed_functional
from torch.nn import functional

from ..classes import ClassScheme

_IGNORED = -100
DYNAMIC = "dynamic"


def dynamic_class_weights(pixels: torch.Tensor) -> torch.Tensor:
    """W_c = 1 − n_c / Σn from the labelled pixels of each class in a batch, their mean brought to 1; 0 without any.

    Source: Modi et al. 2024, eq. 1; "normalised so that the losses don't get scaled", which it does not write out.
    """
    total = pixels.sum()
    weights = 1 - pixels / total.clamp(min=1)
    return torch.where(total > 0, weights * len(pixels) / weights.sum(), torch.zeros_like(weights))


class CrossEntropyDiceLoss(nn.Module):
    """Weighted cross entropy plus weighted Dice loss; unlabelled pixels contribute nothing to either.

    With labelled pixels i of class y_i, p_ic the probability of class c there and Y_ic whether c is y_i:
    Σ_i W_(y_i) · (−log p_(i y_i)) / N + Σ_c W_c · (1 − (2 Σ_i Y_ic p_ic + ε) / (Σ_i Y_ic + Σ_i p_ic + ε)).
    Sums run over the batch, and over that of all processes where several train.

    Args:
        scheme: which label is which output channel; of a softmax.
        weights: one per class in label order, taken as they are (a mean of 1 keeps the loss's scale);
            ``"dynamic"`` for :func:`dynamic_class_weights` of every batch, which have that mean; None for equal ones. A
            batch of a single class has the dynamic weight 0 and teaches nothing.
        epsilon: ε.

    Shape:
        logits ``(B, C, h, w)``, label maps ``(B, 1, h, w)`` -> a scalar, 0 without a labelled pixel.

    Raises:
        ValueError: a sigmoid's scheme, or weights that do not fit it.

    Source: Modi et al. 2024. Its equations 3 to 6 are not in the text that there is; these are the usual forms of what
    it names: weighted categorical cross entropy, weighted Dice, class weights of the batch, summed over classes.
    """

    def __init__(
        self, scheme: ClassScheme, weights: Sequence[float] | str | None = DYNAMIC, epsilon: float = 1e-5
    ) -> None:
        super().__init__()
        if scheme.activation != "softmax":
            raise ValueError("this loss is of a softmax over classes; the scheme is a sigmoid's")
        if isinstance(weights, str) and weights != DYNAMIC:
            raise ValueError(f'weights must be "{DYNAMIC}", one per class, or none, not {weights!r}')
        if weights is not None and not isinstance(weights, str) and len(weights) != len(scheme):
            raise ValueError(f"{len(weights)} class weights for {len(scheme)} classes ({', '.join(scheme.names)})")
        self.scheme, self.weights, self.epsilon = scheme, weights, epsilon

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        wanted = self.scheme.target_channels(labels[:, 0], _IGNORED)
        log_probability = functional.log_softmax(logits.float(), dim=1)
        labelled = wanted != _IGNORED
        channels = torch.arange(logits.shape[1], device=logits.device)
        truth = (wanted[:, None] == channels[None, :, None, None]).float()
        pixels = truth.sum(dim=(0, 2, 3))
        crossed = -(truth * log_probability).sum(dim=(0, 2, 3))
        probability = log_probability.exp() * labelled[:, None]
        hit, predicted = ((part * probability).sum(dim=(0, 2, 3)) for part in (truth, labelled[:, None]))
        pixels, crossed, hit, predicted = self._over_processes(torch.stack([pixels, crossed, hit, predicted]))
        weights = self._weights(pixels)
        dice = (2 * hit + self.epsilon) / (pixels + predicted + self.epsilon)
        loss = (weights * crossed).sum() / pixels.sum().clamp(min=1) + (weights * (1 - dice)).sum()
        return loss * (pixels.sum() > 0)

    def _weights(self, pixels: torch.Tensor) -> torch.Tensor:
        """Of each output channel, from its labelled pixels."""
        channels = [tissue.channel for tissue in self.scheme.classes]
        weights = torch.zeros_like(pixels)
        if self.weights == DYNAMIC:
            weights[channels] = dynamic_class_weights(pixels[channels])
        else:
            given = self.weights or [1.0] * len(channels)
            weights[channels] = torch.tensor(given, dtype=pixels.dtype, device=pixels.device)
        return weights

    def _over_processes(self, sums: torch.Tensor) -> torch.Tensor:
        """Each process adds its own pixels' part to the gradient, and DDP takes the mean of what they add: summing
        sums in the backward pass, too, makes that the gradient of the whole."""
        if self.training and distributed.is_available() and distributed.is_initialized():
            return distributed_functional.all_reduce(sums)
        return sums


class MultiOutputLoss(nn.Module):
    """A loss summed over several outputs with a weight each (eq. 7).

    Args:
        loss: of one output.
        weights: W^s, of each output; 0 leaves it out. The paper does not give them.
        targets: of each output, which channel of the label map it is compared with.

    Shape:
        outputs one after the other ``(B, K·C, h, w)``, label maps ``(B, T, h, w)`` -> a scalar.

    Raises:
        ValueError: as many weights as targets are needed, and the logits must be of as many outputs.

    Source: Modi et al. 2024, eq. 7.
    """

    def __init__(
        self, loss: CrossEntropyDiceLoss, weights: Sequence[float] = (1.0,), targets: Sequence[int] = (0,)
    ) -> None:
        super().__init__()
        if len(weights) != len(targets):
            raise ValueError(f"{len(weights)} weights for {len(targets)} outputs")
        self.loss, self.weights, self.targets = loss, tuple(weights), tuple(targets)

    def forward(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        channels = self.loss.scheme.num_channels
        if outputs.shape[1] != channels * len(self.weights):
            raise ValueError(
                f"{outputs.shape[1]} channels are not {len(self.weights)} outputs of {channels}: set the loss's "
                "weights and targets to what the network gives"
            )
        parts = zip(self.weights, self.targets, outputs.split(channels, dim=1), strict=True)
        losses = [weight * self.loss(part, labels[:, at : at + 1]) for weight, at, part in parts if weight]
        return torch.stack(losses).sum()
