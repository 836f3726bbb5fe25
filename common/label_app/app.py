"""The app that MONAI Label runs."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import torch
from fastapi import HTTPException
from monailabel.config import settings
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.exception import MONAILabelException
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.tasks.activelearning.first import First
from monailabel.tasks.activelearning.random import Random
from monailabel.utils.others.pathology import create_asap_annotations_xml, create_dsa_annotations_json

from .. import __version__
from ..slides import check_origin
from .bundles import ServedBundle, serve
from .datastore import StudiesOnly
from .infer import SlideInferTask
from .request_values import RequestError, inference_values, slide_of
from .train import SlideTrainTask

logger = logging.getLogger(__name__)

_WRITERS = {"asap": create_asap_annotations_xml, "dsa": create_dsa_annotations_json}


class StudiesDatastore(StudiesOnly, LocalDatastore):
    """MONAI Label's folder of slides, which requests cannot leave."""


class SlideApp(MONAILabelApp):
    """MONAI Label app that serves bundles for whole slides.

    Args:
        app_dir: folder for copies of the bundles.
        studies: folder of slides.
        conf: settings of MONAI Label; ``bundles`` holds the bundles' paths as a JSON list.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        paths = [Path(path) for path in json.loads(conf.get("bundles", "[]"))]
        served = [serve(path, Path(app_dir) / "model") for path in paths]
        self.bundles: dict[str, ServedBundle] = {bundle.name: bundle for bundle in served}
        if len(self.bundles) < len(served):
            raise ValueError("two bundles have the same name: export one of them with another --name")
        self.mpp = float(conf["mpp"]) if conf.get("mpp") else None
        self.origin = conf.get("origin") or None
        if self.origin is not None:
            check_origin(self.origin)
        super().__init__(
            app_dir,
            studies,
            conf,
            name="MultiMag",
            description="Whole-slide segmentation at several magnifications",
            version=__version__,
        )

    def init_infers(self) -> dict[str, InferTask]:
        """Return an inference task per bundle."""
        return {name: SlideInferTask(bundle, self.mpp, self.origin) for name, bundle in self.bundles.items()}

    def init_trainers(self) -> dict[str, TrainTask]:
        """Return a training task per bundle."""
        return {name: SlideTrainTask(bundle, self.conf) for name, bundle in self.bundles.items()}

    def init_strategies(self) -> dict[str, Strategy]:
        """Return the strategies that choose the next slide to annotate."""
        return {"random": Random(), "first": First()}

    def init_datastore(self) -> StudiesDatastore:
        """Return the datastore of a folder on this machine; addresses of other servers are not accepted."""
        return StudiesDatastore(
            self.studies,
            extensions=settings.MONAI_LABEL_DATASTORE_FILE_EXT,
            auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
        )

    def _checked(self, request: dict[str, Any], datastore: Any) -> dict[str, Any]:
        """Return a request's values, cast to their types, with the path of its slide.

        Raises:
            HTTPException: a value has another type, or there is no such slide; the viewer sees the reason.
        """
        try:
            values = inference_values(request)
            image = slide_of(request.get("image"), (datastore or self.datastore()).get_image_uri, self.studies)
        except RequestError as error:
            raise HTTPException(422, str(error)) from error
        return {**values, "image": image}

    def infer(self, request: dict[str, Any], datastore: Any = None) -> dict[str, Any]:
        """Segment a slide of the folder by its id; MONAI Label itself would open any path."""
        return super().infer(self._checked(request, datastore), datastore)

    def infer_wsi(self, request: dict[str, Any], datastore: Any = None) -> dict[str, Any]:
        """Segment a region in one piece. MONAI Label would cut it into tiles, each with a tile grid of its own.

        Raises:
            HTTPException: there is no such model or slide, or the slide cannot be read; the viewer sees the reason.
        """
        request = self._checked(request, datastore)
        task = self._infers.get(request.get("model"))
        if task is None:
            raise HTTPException(404, f"There is no model {request.get('model')!r}")
        if not torch.cuda.is_available():
            request["device"] = "cpu"
        try:
            _, found = task(request)
        except MONAILabelException as error:
            # MONAI Label would report only that there was an error.
            raise HTTPException(422, error.msg) from error
        location, size = request.get("location") or [0, 0], request.get("size") or [0, 0]
        result = {
            "annotations": [found],
            "name": f"{request['model']} at {location}, {size}",
            "description": task.description,
            "model": request["model"],
            "location": location,
            "size": size,
            "latencies": found["latencies"],
        }
        if request.get("output") == "asap":
            # MONAI Label writes names and descriptions into the XML without escaping them.
            result["description"] = _escaped(task.description)
            for element in found["annotation"]["elements"]:
                element["label"] = _escaped(element["label"])
            colors = found["annotation"]["labels"]
            found["annotation"]["labels"] = {_escaped(name): color for name, color in colors.items()}
        writer = _WRITERS.get(request.get("output") or "dsa")
        return {"file": writer(result)[0] if writer else None, "params": result}


def _escaped(text: str) -> str:
    return escape(text, {'"': "&quot;"})
