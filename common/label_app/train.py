"""Training on slides that were annotated in the viewer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from monailabel.tasks.train.bundle import BundleTrainTask

from .bundles import ServedBundle

logger = logging.getLogger(__name__)

# Settings of train.yaml that a request may give.
_SETTINGS = ("samples_per_epoch", "batch_size", "learning_rate", "num_workers", "val_interval", "min_labelled", "seed")


class SlideTrainTask(BundleTrainTask):
    """MONAI Label's training of a bundle, for annotations that are never of all classes.

    Args:
        bundle: whose copy is trained: its new weights are served at once.
        conf: of the app.
    """

    def __init__(self, bundle: ServedBundle, conf: dict[str, str]) -> None:
        super().__init__(str(bundle.folder), conf)
        self._request: Mapping[str, Any] = {}

    def __call__(self, request: Mapping[str, Any], datastore: Any) -> dict[str, Any]:
        """Train on the slides of ``datastore`` that have a final annotation; ``max_epochs``, ``val_split`` and settings
        of train.yaml are taken from the request.

        Raises:
            ValueError: no slide is annotated.
        """
        if not datastore.datalist():
            raise ValueError("no slide is annotated. Submit annotations of one first")
        self._request = request
        return super().__call__(request, datastore)

    def _fetch_datalist(self, request: Mapping[str, Any], datastore: Any) -> list[dict[str, Any]]:
        mpp = request.get("mpp", self.conf.get("mpp"))
        more = {} if mpp is None else {"mpp": float(mpp)}
        return [{**item, **more} for item in super()._fetch_datalist(request, datastore)]

    def _partition_datalist(self, datalist: list[Any], request: Mapping[str, Any], shuffle: bool = False) -> Any:
        training, validation = super()._partition_datalist(datalist, request, shuffle)
        if validation is None or validation:
            return training, validation
        logger.warning("%d annotated slides cannot be split: the training slides choose the checkpoint", len(datalist))
        return datalist, datalist

    def _update_overrides(self, overrides: dict[str, Any]) -> dict[str, Any]:
        # A trainer's own setting alone would leave the rate's schedule as long as the bundle's training.
        overrides["epochs"] = overrides["train#trainer#max_epochs"]
        # MONAI takes a plain None for nothing given.
        overrides["allow_missing"] = "$None"
        overrides["num_workers"] = 0
        # A training as short as those of a viewer is over before a longer interval.
        overrides["val_interval"] = 1
        overrides.update({key: self._request[key] for key in _SETTINGS if key in self._request})
        return overrides
