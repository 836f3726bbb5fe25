"""From two sources of slides to slides of one in the style of the other."""

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
    """What trains the generator: MONAI's AdversarialTrainer."""

    def run(self) -> Any:
        """Train it."""


class StyleTransfer:
    """Trains a generator and restyles slides with it. What is finished is not done again: the same command resumes;
    training is done as a whole or not at all.

    Args:
        trainer: of the restyler's generator.
        restyler: of the slides.
        checkpoint: where the generator's weights go, with what they were trained with next to them (``.json``).
        settings: what they are trained with.
    """

    def __init__(
        self, trainer: Trainer, restyler: SlideRestyler, checkpoint: str | Path, settings: Mapping[str, Any]
    ) -> None:
        self.trainer, self.restyler, self.checkpoint = trainer, restyler, Path(checkpoint)
        self.settings = json.loads(json.dumps(dict(settings), default=str))

    def run(self) -> None:
        """Do what is missing.

        Raises:
            ValueError: the checkpoint is of other settings; or as of :meth:`SlideRestyler.run`.
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
