"""Access to the batches of MONAI's engines, which split them into lists of items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from ignite.engine import Engine


def batch_field(engine: Engine, key: str) -> Any:
    """Return one field of the engine's batch: a tensor, or a list of items."""
    batch: Any = engine.state.batch
    return batch[key] if isinstance(batch, dict) else [item[key] for item in batch]


def stack_items(part: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
    """Return a tensor with a batch dimension of a batch that may have been split into items."""
    return part if isinstance(part, torch.Tensor) else torch.stack(list(part))
