"""All supervised outputs of a network as one, for training."""

from __future__ import annotations

import torch
from torch import nn


class MultiOutput(nn.Module):
    """A network whose forward pass gives all its supervised outputs.

    What trains calls a network's forward pass, and data-parallel training must; what predicts wants the final output
    only. Both have the same weights.

    Args:
        network: with ``forward_branches``, whose outputs are of one shape; of any other there is one output.

    Shape:
        as the network's, but logits ``(B, K·C, h, w)``, output by output, the final one first.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        branches = getattr(self.network, "forward_branches", None)
        return self.network(image) if branches is None else torch.cat(branches(image), dim=1)
