"""Train on slides that were annotated in the viewer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from monailabel.tasks.train.bundle import BundleConstants, BundleTrainTask

from ..networks.checkpoints import read_state
from .bundles import ServedBundle
from .region import with_origin
from .request_values import TRAINING_SETTINGS, training_values

logger = logging.getLogger(__name__)


class _Constants(BundleConstants):
    """MONAI Label's names of a bundle's keys, except those that pass unchecked values of a request to its config."""

    def key_displayable_configs(self) -> list[str]:
        """Return no keys."""
        return []


class SlideTrainTask(BundleTrainTask):
    """MONAI Label's training task for one bundle, for annotations that never have all classes.

    Args:
        bundle: the bundle whose copy is trained; its new weights are served at once.
        conf: the app's settings.
    """

    def __init__(self, bundle: ServedBundle, conf: dict[str, str]) -> None:
        super().__init__(str(bundle.folder), conf, _Constants())
        self._bundle = bundle
        self._request: Mapping[str, Any] = {}

    def __call__(self, request: Mapping[str, Any], datastore: Any) -> dict[str, Any]:
        """Train on the slides that have a final annotation.

        Args:
            request: ``max_epochs``, ``val_split`` and settings of train.yaml.
            datastore: the slides and annotations.

        Raises:
            ValueError: no slide is annotated, or the weights hold more than tensors, since a request may have replaced
                them.
            RequestError: a value has another type than is declared, or the origin of annotations of a slide with bounds
                is unknown.
        """
        values = training_values(request)
        if not datastore.datalist():
            raise ValueError("no slide is annotated. Submit annotations of one first")
        if self._bundle.checkpoint.is_file():
            read_state(self._bundle.checkpoint)
        self._request = values
        # Trainings are not tracked: a request could name the tracking server's address.
        return super().__call__({**values, "model": self._bundle.name, "tracking": "None"}, datastore)

    def _fetch_datalist(self, request: Mapping[str, Any], datastore: Any) -> list[dict[str, Any]]:
        mpp = self._request.get("mpp", self.conf.get("mpp"))
        more = {} if mpp is None else {"mpp": float(mpp)}
        more |= {"series": self._request["series"]} if "series" in self._request else {}
        origin = self._request.get("origin", self.conf.get("origin") or None)
        found = [with_origin({**item, **more}, origin) for item in super()._fetch_datalist(request, datastore)]
        if any(item.get("origin") == "bounds" for item in found) and not self._bundle.knows_origins:
            raise ValueError(
                f"{self._bundle.name} was exported before annotations could count from a slide's bounds, and would "
                "train on what lies next to them. Export it again"
            )
        return found

    def _partition_datalist(self, datalist: list[Any], request: Mapping[str, Any], shuffle: bool = False) -> Any:
        training, validation = super()._partition_datalist(datalist, request, shuffle)
        if validation is None or validation:
            return training, validation
        logger.warning("%d annotated slides cannot be split: the training slides choose the checkpoint", len(datalist))
        return datalist, datalist

    def _update_overrides(self, overrides: dict[str, Any]) -> dict[str, Any]:
        # With the trainer's setting alone, the learning rate's schedule would be as long as the bundle's training.
        overrides["epochs"] = overrides["train#trainer#max_epochs"]
        # MONAI drops a key that is set to a plain None.
        overrides["allow_missing"] = "$None"
        overrides["num_workers"] = 0
        # Trainings from a viewer are short, and could end before a longer interval.
        overrides["val_interval"] = 1
        overrides.update({key: self._request[key] for key in TRAINING_SETTINGS if key in self._request})
        return overrides
