"""Cross entropy over partially labelled maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import distributed, nn
from torch.nn import functional

from ..classes import ClassScheme

_IGNORED = -100
NORMALISATIONS = ("pixels", "labelled", "weights")


class WeightedCrossEntropyLoss(nn.Module):
    """Weighted cross entropy, to which unlabelled pixels contribute nothing; binary if the scheme's activation is a
    sigmoid.

    Args:
        scheme: the classes and their output channels.
        weights: one per class, in label order; None for equal weights.
        normalisation: divisor of the weighted sum. ``"pixels"``: all pixels of the batch (eq. 1 as printed);
            ``"labelled"``: the labelled pixels; ``"weights"``: the weights of the labelled pixels, as in PyTorch's
            mean and so in the released code. A batch without a labelled pixel has loss 0. If several processes train,
            the divisor is their mean: the mean of their losses, and of their gradients, is that of one process with
            all their patches in its batch.

    Shape:
        logits ``(B, C, h, w)``, label maps ``(B, 1, h, w)`` -> a scalar.

    Raises:
        ValueError: unknown ``normalisation``, or weights that do not fit the scheme.

    Source: Ho et al. 2021, eq. 1; for a sigmoid, the data term of Gu et al. 2018, eq. 1.
    """

    def __init__(
        self, scheme: ClassScheme, weights: Sequence[float] | None = None, normalisation: str = "pixels"
    ) -> None:
        super().__init__()
        if normalisation not in NORMALISATIONS:
            raise ValueError(f"normalisation must be one of {', '.join(NORMALISATIONS)}, not {normalisation!r}")
        if weights is not None and len(weights) != len(scheme):
            raise ValueError(f"{len(weights)} class weights for {len(scheme)} classes ({', '.join(scheme.names)})")
        self.scheme, self.normalisation = scheme, normalisation
        # By label, because one of a sigmoid's two classes has no channel.
        label_weights = torch.zeros(256)
        label_weights[1 : len(scheme) + 1] = torch.tensor(weights or [1.0] * len(scheme))
        self.register_buffer("weights", label_weights)
        self.weights: torch.Tensor

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        total, divisor = self.sums(logits, labels)
        count = self._mean_over_processes(divisor)
        return total / count.clamp(min=torch.finfo(torch.float32).tiny)

    def sums(self, logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the weighted sum over the pixels of a batch, and its divisor."""
        labels = labels[:, 0].long()
        weights = self.weights.to(logits.device)
        single = self.scheme.activation == "sigmoid"
        total = (self._binary if single else self._multiclass)(logits.float(), labels, weights)
        return total, self._divisor(labels, weights)

    def _multiclass(self, logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        channels = self.scheme.target_channels(labels, _IGNORED)
        channel_weights = torch.zeros(logits.shape[1], device=logits.device)
        for tissue_class in self.scheme.classes:
            if tissue_class.channel is not None:
                channel_weights[tissue_class.channel] = weights[tissue_class.label]
        return functional.cross_entropy(logits, channels, channel_weights, ignore_index=_IGNORED, reduction="sum")

    def _binary(self, logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        positive = (labels == self.scheme.positive.label).float()
        return functional.binary_cross_entropy_with_logits(logits[:, 0], positive, weights[labels], reduction="sum")

    def _divisor(self, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        if self.normalisation == "pixels":
            return torch.tensor(float(labels.numel()), device=labels.device)
        labelled = (labels > 0) & (labels <= len(self.scheme))
        return weights[labels[labelled]].sum() if self.normalisation == "weights" else labelled.sum().float()

    def _mean_over_processes(self, count: torch.Tensor) -> torch.Tensor:
        if not (self.training and distributed.is_available() and distributed.is_initialized()):
            return count
        distributed.all_reduce(count)
        return count / distributed.get_world_size()


def l2_parameter_groups(network: nn.Module, strength: float) -> list[dict[str, Any]]:
    """Return parameter groups for an optimiser that adds λ‖W‖² of all convolutions' weights to the loss.

    Biases and normalisations are not regularised.

    Args:
        network: the network to train.
        strength: λ. The optimiser's ``weight_decay``, which multiplies W in the gradient, is twice that. (Adam adds it
            to the gradient of the loss, as this needs; AdamW does not.)

    Source: Gu et al. 2018, eq. 1 and section 4.1. The paper prints the term inside the sum over examples; it belongs
    outside.
    """
    convolutions = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    regularised = {id(weight) for weight in convolutions}
    others = [parameter for parameter in network.parameters() if id(parameter) not in regularised]
    return [{"params": convolutions, "weight_decay": 2 * strength}, {"params": others, "weight_decay": 0.0}]
