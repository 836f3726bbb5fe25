"""Run inference on a region or a whole slide, with the whole-slide engine."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

import torch
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from ..errors import UnreadableFileError
from ..networks.checkpoints import load_weights
from .bundles import ServedBundle
from .region import POLYGONS, NotSegmentedError, annotated_region
from .request_values import RequestError, inference_values

logger = logging.getLogger(__name__)


class SlideInferTask(InferTask):
    """MONAI Label's inference task for one bundle.

    A region is predicted on the tile grid of the whole slide, so the result does not depend on where the region begins.

    Args:
        bundle: the bundle.
        mpp: µm/px of slides that do not state theirs.
        origin: origin of viewers' coordinates on slides with bounds, ``"slide"`` or ``"bounds"``.
    """

    def __init__(self, bundle: ServedBundle, mpp: float | None = None, origin: str | None = None) -> None:
        self.bundle, self.mpp, self.origin = bundle, mpp, origin
        self._parser = bundle.parser("inference.yaml")
        self.scheme = self._parser.get_parsed_content("scheme")
        metadata = bundle.metadata()
        labels = {one.name: one.label for one in self.scheme.classes}
        super().__init__(InferType.SEGMENTATION, labels, 2, metadata["description"])
        self.version = metadata["version"]
        self._loaded: dict[str, tuple[int, Any, Any]] = {}
        self._busy = threading.Lock()

    def is_valid(self) -> bool:
        """Return whether the bundle has weights; it is not served without."""
        return self.bundle.checkpoint.is_file()

    def get_path(self, validate: bool = True) -> str:
        """Return the path of the weights."""
        return str(self.bundle.checkpoint)

    def info(self) -> dict[str, Any]:
        """Return MONAI Label's description of the task, with ``pathology``, which plugins for slides look for."""
        return {**super().info(), "pathology": True, "version": self.version}

    def __call__(self, request: Mapping[str, Any], callbacks: Any = None) -> tuple[None, dict[str, Any]]:
        """Segment a region of a slide.

        Args:
            request: ``image``; ``location`` and ``size`` (``[x, y]``, ``[width, height]``, level-0 pixels; the whole
                slide without a size); ``mpp`` of slides that do not state theirs; ``series``, the image of a file of
                several; ``origin`` of the viewer's coordinates on a slide with bounds.
            callbacks: not used.

        Raises:
            MONAILabelException: the slide cannot be read, a value of the request has another type, or the origin of
                positions is unknown; the message has the reason.
        """
        begun = time.monotonic()
        try:
            values = inference_values(request)
        except RequestError as error:
            raise MONAILabelException(MONAILabelError.INVALID_INPUT, str(error)) from error
        device = values.get("device", "cuda")
        with self._busy:
            inferer, network = self._of_device(device if torch.cuda.is_available() else "cpu")
            try:
                asked = {"mpp": self.mpp, **values}
                found = annotated_region(inferer, network, request["image"], asked, self.origin)
            except RequestError as error:
                raise MONAILabelException(MONAILabelError.INVALID_INPUT, str(error)) from error
            except (UnreadableFileError, NotSegmentedError) as error:
                raise MONAILabelException(MONAILabelError.INFERENCE_ERROR, str(error)) from error
        seconds = round(time.monotonic() - begun, 2)
        latencies = {"pre": 0, "infer": seconds, "post": 0, "total": seconds}
        return None, {"annotation": found, "label_names": self.labels, "latencies": latencies}

    def _of_device(self, device: str) -> tuple[Any, Any]:
        """Return engine and network; they are made once, and again when training has written new weights."""
        written = self.bundle.checkpoint.stat().st_mtime_ns
        known = self._loaded.get(device)
        if known is None or known[0] != written:
            parser = self.bundle.parser("inference.yaml")
            parser["device"] = f"$torch.device('{torch.device(device)}')"
            parser["outputs"] = [POLYGONS]
            parser["devices"] = None
            network = parser.get_parsed_content("network").eval()
            seen = {key: parser.get_parsed_content(key) for key in ("fields_of_view", "target", "scheme")}
            load_weights(network, self.bundle.checkpoint, **seen)
            self._loaded[device] = (written, parser.get_parsed_content("inferer"), network)
            logger.info("%s: weights of %s on %s", self.bundle.name, self.bundle.checkpoint, device)
        return self._loaded[device][1:]
