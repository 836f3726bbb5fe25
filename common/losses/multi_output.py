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
    """Return W_c = 1 − n_c / Σn, scaled to a mean of 1; zeros without labelled pixels.

    Args:
        pixels: n_c, the labelled pixels of each class in a batch.

    Source: Modi et al. 2024, eq. 1; "normalised so that the losses don't get scaled", for which it has no formula.
    """
    total = pixels.sum()
    weights = 1 - pixels / total.clamp(min=1)
    return torch.where(total > 0, weights * len(pixels) / weights.sum(), torch.zeros_like(weights))


class CrossEntropyDiceLoss(nn.Module):
    """Weighted cross entropy plus weighted Dice loss; unlabelled pixels contribute nothing to either.

    With N labelled pixels i of class y_i, the probability p_ic of class c at i, and Y_ic = 1 if c is y_i, else 0:
    Σ_i W_(y_i) · (−log p_(i y_i)) / N + Σ_c W_c · (1 − (2 Σ_i Y_ic p_ic + ε) / (Σ_i Y_ic + Σ_i p_ic + ε)).
    Sums run over the batch, and over the batches of all processes if several train.

    Args:
        scheme: the classes and their output channels; its activation is a softmax.
        weights: one per class in label order (a mean of 1 keeps the loss's scale); ``"dynamic"`` for
            :func:`dynamic_class_weights` of every batch, whose mean is 1; None for equal weights. In a batch of a
            single class, the dynamic weight is 0 and nothing is learnt.
        epsilon: ε.

    Shape:
        logits ``(B, C, h, w)``, label maps ``(B, 1, h, w)`` -> a scalar, 0 without a labelled pixel.

    Raises:
        ValueError: a scheme with a sigmoid, or weights that do not fit the scheme.

    Source: Modi et al. 2024. Its equations 3 to 6 are missing from the available text. These are the usual forms of
    what it names: weighted categorical cross entropy, weighted Dice, class weights of the batch, summed over classes.
    """

    def __init__(
        self, scheme: ClassScheme, weights: Sequence[float] | str | None = DYNAMIC, epsilon: float = 1e-5
    ) -> None:
        super().__init__()
        if scheme.activation != "softmax":
            raise ValueError("this loss is of a softmax over classes; the scheme's activation is a sigmoid")
        if isinstance(weights, str) and weights != DYNAMIC:
            raise ValueError(f'weights must be "{DYNAMIC}", one per class, or none, not {weights!r}')
        if weights is not None and not isinstance(weights, str) and len(weights) != len(scheme):
            raise ValueError(f"{len(weights)} class weights for {len(scheme)} classes ({', '.join(scheme.names)})")
        self.scheme, self.weights, self.epsilon = scheme, weights, epsilon

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        target = self.scheme.target_channels(labels[:, 0], _IGNORED)
        log_probability = functional.log_softmax(logits.float(), dim=1)
        labelled = target != _IGNORED
        channels = torch.arange(logits.shape[1], device=logits.device)
        truth = (target[:, None] == channels[None, :, None, None]).float()
        support = truth.sum(dim=(0, 2, 3))
        cross_entropy = -(truth * log_probability).sum(dim=(0, 2, 3))
        probability = log_probability.exp() * labelled[:, None]
        tp, predicted = ((part * probability).sum(dim=(0, 2, 3)) for part in (truth, labelled[:, None]))
        sums = self._over_processes(torch.stack([support, cross_entropy, tp, predicted]))
        support, cross_entropy, tp, predicted = sums
        weights = self._weights(support)
        dice = (2 * tp + self.epsilon) / (support + predicted + self.epsilon)
        loss = (weights * cross_entropy).sum() / support.sum().clamp(min=1) + (weights * (1 - dice)).sum()
        return loss * (support.sum() > 0)

    def _weights(self, support: torch.Tensor) -> torch.Tensor:
        """Return the weight of each output channel, from its labelled pixels."""
        channels = [tissue_class.channel for tissue_class in self.scheme.classes]
        weights = torch.zeros_like(support)
        if self.weights == DYNAMIC:
            weights[channels] = dynamic_class_weights(support[channels])
        else:
            fixed = self.weights or [1.0] * len(channels)
            weights[channels] = torch.tensor(fixed, dtype=support.dtype, device=support.device)
        return weights

    def _over_processes(self, sums: torch.Tensor) -> torch.Tensor:
        """Return the sums over all processes.

        Each process adds the part of its own pixels to the gradient, and DDP averages the parts. Summing in the
        backward pass as well makes the average the gradient of the whole batch.
        """
        if self.training and distributed.is_available() and distributed.is_initialized():
            return distributed_functional.all_reduce(sums)
        return sums


class MultiOutputLoss(nn.Module):
    """Weighted sum of a loss over several outputs (eq. 7).

    Args:
        loss: loss of one output.
        weights: W^s, one per output; 0 leaves an output out. The paper does not state them.
        targets: for each output, the channel of the label map that it is compared with.

    Shape:
        logits of K outputs ``(B, K·C, h, w)``, label maps ``(B, T, h, w)`` -> a scalar.

    Raises:
        ValueError: numbers of weights, targets and outputs that differ.

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
                "weights and targets to those of the network"
            )
        parts = zip(self.weights, self.targets, outputs.split(channels, dim=1), strict=True)
        losses = [weight * self.loss(part, labels[:, k : k + 1]) for weight, k, part in parts if weight]
        return torch.stack(losses).sum()
