"""Resume a training that was stopped after its last finished epoch."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.handlers import CheckpointSaver
from torch import distributed, nn
from torch.optim import Optimizer

from ..data import MultiMagnificationPatchDataset, SeededDistributedSampler
from ..files import atomic_write
from ..inference.autocast import AutocastInferer
from ..literal import as_path
from ..networks.checkpoints import weights_digest
from ..renamed_keys import takes_old_names
from ..settings import differences
from ..slides import image_and_series

logger = logging.getLogger(__name__)
_SEED_STEP = 1_000_003
# Keys of the state that a training resumes from.
_KEPT = (
    *("training", "epoch", "network", "optimizer", "lr_scheduler"),
    *("best_metric", "best_metric_epoch", "best"),
)


@takes_old_names
class ResumeCheckpoint:
    """Handler that saves a training's state after every epoch, and resumes from it.

    Network, optimiser, learning rate, best score and the order of patches are restored. Other random numbers (dropout)
    are seeded at every epoch. So a training that was stopped ends with the same result as one that was not. One process
    writes and reads; the others get the state from it.

    Args:
        path: file of the state; None disables saving. The handler must be the trainer's last, after validation.
        network: the network, not wrapped for several processes.
        optimizer, lr_scheduler: the trainer's optimiser and scheduler.
        draws: the trainer's sampler of patches.
        dataset: dataset that patches are drawn from.
        validator: evaluator that holds the best score.
        best: handler that saves the checkpoint with the best score.
        seed: random seed of the training.

    Raises:
        ValueError: the file is of another training; the message names the differences.
    """

    def __init__(
        self,
        path: str | Path | None,
        network: nn.Module,
        optimizer: Optimizer,
        lr_scheduler: Any,
        epoch_sampler: SeededDistributedSampler,
        dataset: MultiMagnificationPatchDataset,
        validator: Engine,
        best: CheckpointSaver,
        seed: int = 0,
    ) -> None:
        self.path = Path(as_path(path)) if path is not None else None
        self.network, self.optimizer, self.lr_scheduler = network, optimizer, lr_scheduler
        self.epoch_sampler, self.dataset, self.validator = epoch_sampler, dataset, validator
        self.best, self.seed = best, seed
        several = distributed.is_available() and distributed.is_initialized()
        self._rank = distributed.get_rank() if several else 0
        self._several = several

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer."""
        if self.path is not None:
            engine.add_event_handler(Events.STARTED, self._go_on)
            # Not at the start of the epoch: loading its first batch may draw a random number.
            engine.add_event_handler(Events.ITERATION_STARTED, self._reseed)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._keep)

    def _go_on(self, engine: Engine) -> None:
        assert self.path is not None
        self._training = self._described(engine)
        state = self._newest(self._read())
        if state is None:
            logger.info("starting from the first epoch: no %s yet", self.path)
            return
        unlike = differences(state["training"], self._training)
        if unlike:
            raise ValueError(
                f"{self.path} is of another training: {'; '.join(unlike)}. Move it away to start over, or set resume "
                "to another file"
            )
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.lr_scheduler.load_state_dict(state["lr_scheduler"])
        self.epoch_sampler.skip(state["epoch"])
        best: Any = self.validator.state
        best.best_metric, best.best_metric_epoch = state["best_metric"], state["best_metric_epoch"]
        _kept(self.best).load_state_dict(state["best"])
        engine.state.epoch = state["epoch"]
        engine.state.iteration = state["epoch"] * len(engine.state.dataloader)  # type: ignore[arg-type]
        logger.info("resuming after epoch %d of %s: %s", state["epoch"], engine.state.max_epochs, self.path)

    def _newest(self, state: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return the latest state that any process has: the process that wrote it may be on another machine now."""
        if not self._several:
            return state
        epochs: list[int] = [-1] * distributed.get_world_size()
        distributed.all_gather_object(epochs, -1 if state is None else state["epoch"])
        held = [state]
        distributed.broadcast_object_list(held, src=epochs.index(max(epochs)))
        return held[0]

    def _reseed(self, engine: Engine) -> None:
        if (engine.state.iteration - 1) % len(engine.state.dataloader) == 0:  # type: ignore[arg-type]
            torch.manual_seed(((self.seed * _SEED_STEP + engine.state.epoch) * _SEED_STEP + self._rank) % 2**63)

    def _keep(self, engine: Engine) -> None:
        assert self.path is not None
        if self._rank > 0:
            return
        best: Any = self.validator.state
        state = {
            "training": self._training,
            "epoch": engine.state.epoch,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "lr_scheduler": self.lr_scheduler.state_dict(),
            "best_metric": best.best_metric,
            "best_metric_epoch": best.best_metric_epoch,
            "best": _kept(self.best).state_dict(),
        }
        with atomic_write(self.path) as partial:
            torch.save(state, partial)
            with partial.open("rb") as file:
                # Flushed before it replaces the previous state, of which there is no copy.
                os.fsync(file.fileno())

    def _read(self) -> dict[str, Any] | None:
        assert self.path is not None
        if not self.path.exists():
            return None
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file may raise anything
            raise ValueError(f"{self.path} cannot be read ({error}). Move it away to start over") from error
        missing = [key for key in _KEPT if key not in state] if isinstance(state, dict) else list(_KEPT)
        if missing:
            raise ValueError(
                f"{self.path} holds no state to resume from: it lacks {', '.join(missing)}. Move it away to start "
                "over, or set resume to another file"
            )
        return state

    def _described(self, engine: Engine) -> dict[str, Any]:
        """Return the settings that must agree for a training to resume, as far as they are known here."""
        groups = [
            {name: value for name, value in group.items() if name != "params" and not isinstance(value, torch.Tensor)}
            for group in self.optimizer.param_groups
        ]
        described = {
            "network": type(self.network).__name__,
            "parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            "begun_with": weights_digest(self.network),
            "learning": sum(parameter.requires_grad for parameter in self.network.parameters()),
            "patches": hashlib.sha256(self.dataset.index.rows.to_csv(index=False).encode()).hexdigest(),
            **_chosen_series(self.dataset.data),
            "seed": self.seed,
            "dtype": _precision(engine),
            "processes": distributed.get_world_size() if self._several else 1,
            "steps_per_epoch": len(engine.state.dataloader),  # type: ignore[arg-type]
            "draws_per_epoch": len(self.epoch_sampler.sampler),  # type: ignore[arg-type]
            "optimizer": type(self.optimizer).__name__,
            "settings": groups,
        }
        # Without tuples, as after reading.
        return json.loads(json.dumps(described))


def _chosen_series(data: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the images that were chosen in files of several; empty if none was.

    The patch index alone does not tell them apart: several images may have the same size.
    """
    chosen = [image_and_series(item)[1] for item in data]
    return {"series": chosen} if any(series is not None for series in chosen) else {}


def _precision(engine: Any) -> str | None:
    """Return the precision of the trainer's forward pass, if its inferer chooses one."""
    return engine.inferer.dtype_on(engine.state.device) if isinstance(engine.inferer, AutocastInferer) else None


def _kept(saver: CheckpointSaver) -> Any:
    """Return ignite's record of the best checkpoint. Without it, the first checkpoint would replace a better one."""
    return saver._key_metric_checkpoint
