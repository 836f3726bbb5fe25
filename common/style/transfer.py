"""Style transfer from start to end: train a generator, then restyle slides."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from ..files import atomic_write, write_json
from ..networks.checkpoints import load_weights
from .restyle import SlideRestyler

logger = logging.getLogger(__name__)


class Trainer(Protocol):
    """A trainer of the generator, such as MONAI's AdversarialTrainer."""

    def run(self) -> Any:
        """Train the generator."""


class StyleTransfer:
    """Trains a generator and restyles slides with it.

    Run again after an interruption, it skips a finished training and finished slides. An unfinished training starts
    over.

    Args:
        trainer: trainer of the restyler's generator.
        restyler: writer of the slides.
        checkpoint: file of the generator's weights. The settings are written next to it (``.json``).
        settings: settings of the training, by name.

    Example::

        StyleTransfer(trainer, restyler, "models/style_B.pt", {"epochs": 50}).run()
    """

    def __init__(
        self, trainer: Trainer, restyler: SlideRestyler, checkpoint: str | Path, settings: Mapping[str, Any]
    ) -> None:
        self.trainer, self.restyler, self.checkpoint = trainer, restyler, Path(checkpoint)
        self.settings = json.loads(json.dumps(dict(settings), default=str))

    def run(self) -> None:
        """Train and restyle whatever is missing.

        Raises:
            ValueError: the checkpoint was trained with other settings; or see :meth:`SlideRestyler.run`.
        """
        record = self.checkpoint.with_suffix(".json")
        if self.checkpoint.exists():
            found = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
            changed = [key for key, value in self.settings.items() if found.get(key) != value]
            if changed:
                raise ValueError(
                    f"{self.checkpoint}: trained with other {', '.join(changed)}. Name another style, or delete it"
                )
            logger.info("trained already: %s", self.checkpoint)
            load_weights(self.restyler.generator, self.checkpoint)
        else:
            self.trainer.run()
            write_json(record, self.settings)
            with atomic_write(self.checkpoint) as partial:
                torch.save(self.restyler.generator.state_dict(), partial)
        self.restyler.run()
