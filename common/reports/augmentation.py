"""Draw the augmentations of a data set's patches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from tqdm import tqdm

from ..bundle.parser import bundle_settings
from ..data.output_names import output_name
from ..data.styled_slides import styled_slides
from ..data.tissue_patches import slide_entries, tissue_patches
from ..figures import new_figure, save_figure
from ..files import atomic_write
from ..outputs.overlay import font
from ..slides import FieldOfView
from ..transforms import RandDeformd, SelectTransforms
from ..transforms.views import as_pixels
from .scores import write_table

_DRAWS = 5
_CELL = 192
# Pixels of lower saturation are not stained: the hue of grey is noise.
_LEAST_SATURATION = 20


def single_transforms(available: Mapping[str, Any]) -> Iterator[tuple[str, Callable]]:
    """Yield every random transform in a set of named ones, with a title; parts of composed ones come one by one."""
    for name, transform in available.items():
        parts = list(_parts(transform))
        for part in parts:
            kind = type(part.deformations[0] if isinstance(part, RandDeformd) else part).__name__
            yield (name if len(parts) == 1 else f"{name}: {kind}"), part


def _parts(transform: Any) -> Iterator[Any]:
    if isinstance(transform, RandDeformd):
        yield from transform.split()
        return
    inner = getattr(transform, "transforms", None)
    if inner is None:
        if hasattr(transform, "set_random_state"):
            yield transform
        return
    for part in inner:
        yield from _parts(part)


def always(transform: Any) -> Any:
    """Return a copy of a transform that is always applied."""
    transform = copy.deepcopy(transform)
    if hasattr(transform, "each"):
        transform.each = 1.0
    for deformation in getattr(transform, "deformations", ()):
        deformation.prob = 1.0
    transform.prob = 1.0
    return transform


class AugmentationReport:
    """Pictures of augmentations on patches of a datalist.

    Args:
        datalist: path of the datalist.
        bundle: name or folder of the bundle whose train.yaml has the augmentations (``available``) and the views.
        configs: overlays on train.yaml.
        patches: number of patches whose hue and saturation are measured.
        seed: random seed of patches and augmentations.
    """

    def __init__(
        self, datalist: str | Path, bundle: str | Path, configs: Sequence[str] = (), patches: int = 64, seed: int = 0
    ) -> None:
        keys = ["available", "augmentations", "fields_of_view", "targets"]
        self.settings = bundle_settings(bundle, ["train.yaml", *configs], keys)
        self.entries = slide_entries(datalist)
        self.views = [FieldOfView.from_config(view) for view in self.settings["fields_of_view"]]
        self.seed, self.rng = seed, np.random.default_rng(seed)
        self.patches = tissue_patches(self.entries, self.views)
        self.chosen = self.rng.permutation(len(self.patches))[:patches].tolist()

    def write(self, out: str | Path, styled: str | Path | None = None) -> pd.DataFrame:
        """Write ``augmentations.png`` (a row per augmentation: the patch, augmented versions of its finest view, and
        the coarsest view of the last; Modi et al. 2024, Fig. 8), ``hue_saturation.png`` and ``hue_saturation.csv`` (its
        Fig. 7).

        Args:
            out: folder to write to.
            styled: folder of slides in other styles, to be shown as well.

        Returns:
            5th and 95th percentile of hue (degrees) and saturation of stained pixels, before and after.
        """
        out = Path(out)
        with atomic_write(out / "augmentations.png") as partial:
            self._sheet().save(partial)
        sets = {"original": self._originals(), "augmented": self._augmented()}
        if styled is not None:
            sets["other styles"] = self._styled(styled)
        found = {name: _hue_saturation(images) for name, images in sets.items()}
        table = pd.DataFrame([{"patches": name, **_ranges(values)} for name, values in found.items()])
        write_table(out / "hue_saturation.csv", table)
        _plot(out / "hue_saturation.png", found)
        return table

    def _item(self, position: int) -> dict[str, Any]:
        """Return a patch as an item for transforms, with label maps, which some of them need."""
        targets = [FieldOfView.from_config(view) for view in self.settings["targets"]]
        labels = np.ones((len(targets), targets[0].size, targets[0].size), dtype=np.uint8)
        return {"image": self.patches[position]["image"], "label": labels}

    def _most_stained(self) -> int:
        """Return the position of the chosen patch whose colours vary most."""
        return max(self.chosen, key=lambda position: float(np.ptp(self.patches[position]["image"][:3], axis=0).std()))

    def _sheet(self) -> Image.Image:
        position = self._most_stained()
        rows = [("all of them", _everything(self.settings))]
        rows = [*((name, always(one)) for name, one in single_transforms(self.settings["available"])), *rows]
        letters = font(15)
        sheet = Image.new("RGB", ((_DRAWS + 2) * (_CELL + 4), len(rows) * (_CELL + 26)), "white")
        draw = ImageDraw.Draw(sheet)
        for line, (name, transform) in enumerate(tqdm(rows, desc="drawing", unit="row", delay=2, leave=False)):
            transform.set_random_state(seed=self.seed + 1)
            made = [self._item(position)["image"]]
            made += [np.asarray(transform(self._item(position))["image"]) for _ in range(_DRAWS)]
            top = line * (_CELL + 26)
            draw.text((4, top + 2), f"{name} (left: before; right: the coarsest view of the last)", "black", letters)
            cells = [*(_middle(as_pixels(image[:3])) for image in made), as_pixels(made[-1][-3:])]
            for column, cell in enumerate(cells):
                picture = Image.fromarray(cell).resize((_CELL, _CELL))
                sheet.paste(picture, (column * (_CELL + 4), top + 24))
        return sheet

    def _originals(self) -> list[np.ndarray]:
        return [self._item(position)["image"][:3] for position in self.chosen]

    def _augmented(self) -> list[np.ndarray]:
        transform = _everything(self.settings)
        transform.set_random_state(seed=self.seed)
        return [np.asarray(transform(self._item(position))["image"])[:3] for position in self.chosen]

    def _styled(self, folder: str | Path) -> list[np.ndarray]:
        """Return as many patches of slides in other styles."""
        versions = styled_slides(folder)
        found_of = [versions.get(output_name(entry)) for entry in self.entries]
        paths = [path for known in found_of for path in (known.versions if known else ())]
        if not paths:
            raise ValueError(f"{folder}: none of its slides is a training slide of the datalist")
        found = tissue_patches([{"image": path} for path in paths], self.views[:1])
        return [found[int(row)]["image"] for row in self.rng.permutation(len(found))[: len(self.chosen)]]


def _middle(pixels: np.ndarray) -> np.ndarray:
    """Return the middle of a view, one cell large; blur and noise would not show in a reduced picture."""
    top, left = (max(0, (side - _CELL) // 2) for side in pixels.shape[:2])
    return pixels[top : top + _CELL, left : left + _CELL]


def _everything(settings: Mapping[str, Any]) -> SelectTransforms:
    return SelectTransforms(settings["available"], settings["augmentations"])


def _hue_saturation(images: Sequence[np.ndarray]) -> np.ndarray:
    """Return hue in degrees and saturation from 0 to 255 of stained pixels, ``(pixels, 2)``."""
    found = []
    for image in images:
        hsv = cv2.cvtColor(as_pixels(image), cv2.COLOR_RGB2HSV).reshape(-1, 3)[::7].astype(np.float32)
        found.append(hsv[hsv[:, 1] >= _LEAST_SATURATION, :2] * (2, 1))
    return np.concatenate(found)


def _ranges(values: np.ndarray) -> dict[str, float]:
    """Return ranges of hue and saturation. Hue is circular, so its percentiles are taken around its mean direction."""
    angle = np.deg2rad(values[:, 0])
    middle = np.rad2deg(np.arctan2(np.sin(angle).mean(), np.cos(angle).mean()))
    around = (values[:, 0] - middle + 180) % 360 - 180
    low, high = np.percentile(around, (5, 95))
    least, most = np.percentile(values[:, 1], (5, 95))
    return {
        "mean hue": float(middle % 360),
        "hue range": float(high - low),
        "saturation 5 %": float(least),
        "saturation 95 %": float(most),
        "saturation range": float(most - least),
    }


def _plot(path: Path, found: Mapping[str, np.ndarray]) -> None:
    figure = new_figure(5 * len(found), 4)
    for axes, (name, values) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        counts, *_ = np.histogram2d(values[:, 0], values[:, 1], bins=(90, 64), range=((0, 360), (0, 256)))
        axes.imshow(np.log1p(counts.T), origin="lower", extent=(0, 360, 0, 256), aspect="auto", cmap="magma")
        axes.set(title=f"{name}: stained pixels", xlabel="hue in degrees", ylabel="saturation")
    save_figure(figure, path, dpi=110)
