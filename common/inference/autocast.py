"""A forward pass in lower precision, on any device."""

from __future__ import annotations

import logging
from typing import Any

import torch
from monai.inferers import Inferer
from torch.nn import functional

from .precision import resolve_dtype

logger = logging.getLogger(__name__)


def autocast(device: torch.device | str, dtype: torch.dtype) -> torch.autocast:
    """Return a context in which convolutions run in ``dtype``; float32 changes nothing."""
    # No cache of cast weights: all threads share it and it ignores GPU streams, so one stream could read weights that
    # another has not cast yet. A forward pass uses every weight once.
    return torch.autocast(torch.device(device).type, dtype=dtype, enabled=dtype != torch.float32, cache_enabled=False)


class AutocastInferer(Inferer):
    """``network(inputs)`` under autocast, logits in float32. (MONAI's ``amp`` option is for CUDA only.)

    Args:
        dtype: precision of the forward pass; see :func:`resolve_dtype`.
        upsampling: factor of a bilinear upsampling of the logits, to compare them with a target of finer µm/px.

    Raises:
        ValueError: there is no such precision; on a call, the network would be trained in float16.
    """

    def __init__(self, dtype: str = "auto", upsampling: int = 1) -> None:
        super().__init__()
        resolve_dtype(dtype, "cpu")  # A wrong name fails here, not at the first batch.
        self.dtype, self.upsampling = dtype, upsampling
        self._logged = False

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        dtype = self.dtype_on(inputs.device)
        if dtype == "float16" and torch.is_grad_enabled() and getattr(network, "training", False):
            # Small gradients would silently become 0.
            raise ValueError("float16 cannot be trained in: its gradients need scaling. Set dtype to bfloat16 or auto")
        if not self._logged:
            logger.info("precision: %s on %s", dtype, inputs.device)
            self._logged = True
        with autocast(inputs.device, getattr(torch, dtype)):
            # Convolutions in lower precision are fastest in channels-last memory format.
            logits = network(inputs.contiguous(memory_format=torch.channels_last), *args, **kwargs).float()
        if self.upsampling == 1:
            return logits
        return functional.interpolate(logits, scale_factor=self.upsampling, mode="bilinear", align_corners=False)

    def dtype_on(self, device: torch.device | str) -> str:
        """Return the precision of the forward pass on a device."""
        return resolve_dtype(self.dtype, device)
