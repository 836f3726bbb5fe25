"""Describe the weights of a training's checkpoint in a JSON file next to it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import nn

from .. import __version__
from ..classes import ClassScheme
from ..files import sha256, write_json
from ..literal import as_path
from ..networks.checkpoint_metadata import CheckpointMetadata, as_view, metadata_content, metadata_path
from ..slides import FieldOfView, slide_keys


class CheckpointMetadataWriter:
    """Handler that writes the JSON file next to the best checkpoint whenever that checkpoint is written.

    The file holds no date and no epoch, so that a resumed training ends with the same file.

    Args:
        checkpoint: file that the training keeps its best weights in.
        network: the network that is trained.
        scheme: the classes.
        fields_of_view: the network's fields of view, finest first.
        target: size and µm/px of its output.
        data: datalist entries of the training slides, whose columns ``stain`` and ``synthetic`` are used.
        bundle_root: folder of the bundle.
        overlays: names of the overlays that define this network.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        network: nn.Module,
        scheme: ClassScheme,
        fields_of_view: Sequence[FieldOfView | Mapping[str, Any]],
        target: FieldOfView | Mapping[str, Any],
        data: Sequence[Mapping[str, Any]],
        bundle_root: str | Path,
        overlays: Sequence[str] = (),
    ) -> None:
        self.checkpoint = Path(as_path(checkpoint))
        self.network, self.scheme = network, scheme
        self.fields_of_view, self.target = fields_of_view, target
        self.data, self.bundle_root, self.overlays = list(data), Path(bundle_root), list(overlays)
        self._described: str | None = None

    def attach(self, engine: Engine) -> None:
        """Attach to the validator, after the handler that writes the checkpoint."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if not self.checkpoint.is_file():
            return
        digest = sha256(self.checkpoint)
        if digest != self._described:
            write_json(metadata_path(self.checkpoint), metadata_content(self.describe(digest)))
            self._described = digest

    def describe(self, digest: str) -> CheckpointMetadata:
        """Return the metadata of the checkpoint with this SHA-256."""
        views = [as_view(view) for view in self.fields_of_view]
        slides = _by_slide(self.data)
        painted = sum(bool(item.get("synthetic")) for item in slides)
        return CheckpointMetadata(
            sha256=digest,
            bundle=_bundle_name(self.bundle_root),
            overlays=self.overlays,
            network=type(self.network).__name__,
            fields_of_view=views,
            target=as_view(self.target),
            classes=self.scheme.names,
            trained_on=_trained_on(slides, painted, [view["mpp"] for view in views]),
            synthetic=_all_synthetic(slides, painted),
            stains=_stains(slides),
            slides=len(slides),
            multimag=__version__,
        )


def _by_slide(data: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return one entry per slide: regions of one slide may be separate entries."""
    return list(dict(zip(slide_keys(data), data, strict=True)).values())


def _all_synthetic(slides: Sequence[Mapping[str, Any]], painted: int) -> bool | None:
    if painted == len(slides):
        return True
    known = not painted and all(item.get("synthetic") is not None for item in slides)
    return False if known else None


def _stains(slides: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({str(item["stain"]) for item in slides if item.get("stain") is not None})


def _trained_on(slides: Sequence[Mapping[str, Any]], painted: int, mpp: Sequence[float]) -> str:
    stained = all(item.get("stain") is not None for item in slides)
    kinds = ["synthetic"] if painted == len(slides) else []
    kinds += [_joined(_stains(slides))] if stained else []
    number = f"{len(slides)} {' '.join([*kinds, 'slide' if len(slides) == 1 else 'slides'])}"
    some = f", {painted} of them synthetic" if 0 < painted < len(slides) else ""
    return f"{number} at {_joined([f'{value:g}' for value in mpp])} µm/px{some}."


def _joined(words: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)


def _bundle_name(root: Path) -> str:
    """Return the name in a bundle's metadata, else its folder's."""
    path = root / "configs" / "metadata.json"
    declared = json.loads(path.read_text(encoding="utf-8")).get("name") if path.is_file() else None
    return str(declared or root.resolve().name)
