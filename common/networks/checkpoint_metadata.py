"""Metadata of a checkpoint: the JSON file next to it that says what its weights are for."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

_SYNTHETIC = (
    "These weights were trained on synthetic slides only: they show how the tool works, not what the tissue is."
)
# µm/px that differ by a smaller fraction are the same number, written with fewer digits.
_SAME_MPP = 1e-3


@dataclass(frozen=True)
class CheckpointMetadata:
    """Metadata of a checkpoint's weights.

    Attributes:
        sha256: digest of the checkpoint file.
        bundle: name of the bundle that trained it.
        overlays: names of the configs that define this network when laid over the bundle's, in order.
        network: name of its class.
        fields_of_view: ``mpp``, ``size`` and ``anchor`` of each view, finest first.
        target: ``mpp`` and ``size`` of the prediction.
        classes: class names in label order.
        trained_on: a sentence about the training slides.
        synthetic: whether all of them were synthetic; None if unknown, or if only some were.
        stains: stains of the training slides, as far as the datalist states them.
        slides: number of training slides.
        multimag: version that wrote the file.
    """

    sha256: str
    bundle: str | None = None
    overlays: list[str] = field(default_factory=list)
    network: str | None = None
    fields_of_view: list[dict[str, Any]] = field(default_factory=list)
    target: dict[str, Any] | None = None
    classes: list[str] = field(default_factory=list)
    trained_on: str | None = None
    synthetic: bool | None = None
    stains: list[str] = field(default_factory=list)
    slides: int | None = None
    multimag: str | None = None

    @property
    def note(self) -> str | None:
        """A sentence on the training data for readers of the predictions; None if it is unknown."""
        if self.synthetic:
            return _SYNTHETIC
        source = (self.trained_on or "").strip().rstrip(".")
        if not source:
            return None
        return f"Weights trained on{'' if source[0].isdigit() else ':'} {source}."

    @property
    def mpp(self) -> list[float]:
        """µm/px of the views, finest first."""
        return [view["mpp"] for view in self.fields_of_view]

    @property
    def remedy(self) -> str | None:
        """Advice on the configs that fit these weights; None if they are unknown."""
        if self.overlays:
            noun = "overlay" if len(self.overlays) == 1 else "overlays"
            return f"Add the {noun} it was trained with: --config {','.join(self.overlays)}"
        if self.bundle is not None:
            return f"It was trained with the bundle {self.bundle} and no overlay: use the same"
        return None

    def facts(self) -> dict[str, Any]:
        """Return the facts about the weights that a record of results states."""
        return {
            "trained_on": self.trained_on,
            "synthetic": self.synthetic,
            "stains": self.stains,
            "mpp": self.mpp,
            "note": self.note,
        }

    def difference(
        self, fields_of_view: Sequence[Any] | None = None, target: Any = None, classes: Sequence[str] | None = None
    ) -> str | None:
        """Return how a config's views, target and classes differ from those in training, or None.

        Sizes in pixels may differ: the same weights run on larger and smaller views, and the check of the network
        refuses sizes that do not fit it.

        Args:
            fields_of_view: mappings or objects with ``mpp``, ``size`` and ``anchor``; None is not compared.
            target: the same for the prediction; None is not compared.
            classes: class names in label order; None is not compared.
        """
        views = None if fields_of_view is None else [as_view(view) for view in fields_of_view]
        if views is not None and self.fields_of_view:
            configured = [view["mpp"] for view in views]
            if not _same(configured, self.mpp):
                return f"was trained with views at {_listed(self.mpp)} µm/px, the config says {_listed(configured)}"
            for view, known in zip(views, self.fields_of_view, strict=True):
                if view["anchor"] != known.get("anchor", "center"):
                    return (
                        f"was trained with its view at {view['mpp']:g} µm/px anchored to the "
                        f"{known.get('anchor', 'center')}, the config says {view['anchor']}"
                    )
        if target is not None and self.target is not None:
            mpp = as_view(target)["mpp"]
            if not _same([mpp], [self.target["mpp"]]):
                return f"was trained to predict at {self.target['mpp']:g} µm/px, the config says {mpp:g}"
        if classes is not None and self.classes and list(classes) != self.classes:
            return f"was trained with the classes {', '.join(self.classes)}, the config says {', '.join(classes)}"
        return None


def as_view(value: Any) -> dict[str, Any]:
    """Return a field of view, a mapping or an object, in the form of the JSON file."""
    if isinstance(value, Mapping):
        mpp, size, anchor = value["mpp"], value["size"], value.get("anchor", "center")
    else:
        mpp, size, anchor = value.mpp, value.size, value.anchor
    return {"mpp": float(mpp), "size": int(size), "anchor": str(anchor)}


def metadata_path(checkpoint: str | Path) -> Path:
    """Return the path of a checkpoint's metadata: ``model.pt`` -> ``model.json``."""
    return Path(checkpoint).with_suffix(".json")


def read_checkpoint_metadata(checkpoint: str | Path, sha256: str | None = None) -> CheckpointMetadata | None:
    """Read the metadata of a checkpoint.

    Args:
        checkpoint: path of the weights.
        sha256: digest of the weights, if the caller has it already.

    Returns:
        None if there are none, or if they describe another file, which is logged.

    Raises:
        ValueError: the JSON file is damaged.
    """
    path = metadata_path(checkpoint)
    if not path.is_file():
        return None
    metadata = _parsed(path)
    if metadata is None:
        return None
    if metadata.sha256 != (sha256 or _sha256(Path(checkpoint))):
        logger.warning(
            "%s describes another file than %s, and is not used: its sha256 differs. Delete it, or copy the one that "
            "belongs to these weights",
            path,
            Path(checkpoint).name,
        )
        return None
    return metadata


def metadata_content(metadata: CheckpointMetadata) -> dict[str, Any]:
    """Return metadata in the form of the JSON file."""
    return asdict(metadata)


def _parsed(path: Path) -> CheckpointMetadata | None:
    """Return the metadata in a JSON file; None if it holds something else, as style transfer's does."""
    remedy = "Delete it, or copy it again from where the checkpoint is from"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: no JSON that can be read ({error}). {remedy}") from error
    if isinstance(content, dict) and content and not {"sha256", "fields_of_view", "classes"} & set(content):
        return None
    problem = _problem(content)
    if problem:
        raise ValueError(f"{path}: not the metadata of a checkpoint, {problem}. {remedy}")
    known = {one.name for one in fields(CheckpointMetadata)}
    return CheckpointMetadata(**{key: value for key, value in content.items() if key in known})


def _problem(content: Any) -> str | None:
    """Return the first fault in the content of the JSON file, or None."""
    if not isinstance(content, dict):
        return "no JSON object"
    kinds: dict[str, Any] = {
        "sha256": lambda value: isinstance(value, str),
        **dict.fromkeys(
            ("bundle", "network", "trained_on", "multimag"), lambda value: value is None or isinstance(value, str)
        ),
        **dict.fromkeys(("overlays", "classes", "stains"), _are_strings),
        "fields_of_view": lambda value: isinstance(value, list) and all(map(_is_view, value)),
        "target": lambda value: value is None or _is_view(value),
        "synthetic": lambda value: value is None or isinstance(value, bool),
        "slides": lambda value: value is None or (isinstance(value, int) and not isinstance(value, bool)),
    }
    if "sha256" not in content:
        return "without sha256"
    wrong = [key for key, fits in kinds.items() if key in content and not fits(content[key])]
    return f"{wrong[0]} is {json.dumps(content[wrong[0]])}" if wrong else None


def _are_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_view(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(value.get(key), int | float) and not isinstance(value[key], bool) and value[key] > 0
        for key in ("mpp", "size")
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _same(one: Sequence[float], other: Sequence[float]) -> bool:
    return len(one) == len(other) and all(
        math.isclose(a, b, rel_tol=_SAME_MPP) for a, b in zip(one, other, strict=True)
    )


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
