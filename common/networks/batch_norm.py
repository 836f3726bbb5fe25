"""Batch normalisation where several processes train one network."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

_Network = TypeVar("_Network", bound=nn.Module)


class _FrozenBatchNorm2d(nn.BatchNorm2d):
    """Normalises as in evaluation, in training too."""

    def train(self, mode: bool = True) -> _FrozenBatchNorm2d:
        return super().train(False)


def sync_batch_norm(network: _Network, device: torch.device, frozen: bool = False) -> _Network:
    """Let all processes normalise alike, so that together they train as one with all their patches in its batch.

    Args:
        network: changed in place, and given back.
        device: where it trains. On GPUs the mean and variance are those of all processes' patches (PyTorch's
            ``SyncBatchNorm``); on CPUs, where PyTorch cannot, each process takes those of its own.
        frozen: leave statistics, scales and shifts as they are instead: the same for all, on any device.
    """
    if frozen:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)
                # In place: the optimiser may hold its parameters already.
                module.__class__ = _FrozenBatchNorm2d
                module.train(False)
        return network
    return nn.SyncBatchNorm.convert_sync_batchnorm(network) if device.type == "cuda" else network
