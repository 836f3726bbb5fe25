"""Datasets of patches and of whole slides."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.transforms import Randomizable
from torch.utils.data import Dataset

from ..classes import ClassScheme
from ..renamed_keys import takes_old_names
from ..slides import FieldOfView, PatchReader, tissue_mask
from .balance import balance_by_elastic_deformation, plot_class_balance
from .class_weights import class_weights
from .datalist import merge_by_slide, slide_items, with_defaults
from .distributed import map_distributed
from .draws import Draw
from .index import PatchIndex, TargetGrid, build_patch_index
from .output_names import output_names
from .patch_cache import PatchCache
from .store import SlideStore
from .subsets import PatchesPerClass, PatchSubset

logger = logging.getLogger(__name__)


@takes_old_names
class MultiMagnificationPatchDataset(Dataset):
    """A dataset of patches around annotated targets.

    An item is the slide's datalist entry with ``slide`` (its position in the datalist), ``center`` (row, column;
    level-0 pixels) and ``deformation`` (seed, or -1); also ``elsewhere_center`` with ``elsewhere``, and ``tissue`` with
    ``tissue``. ``transform``, which begins with :class:`LoadMultiMagnificationPatchd`, turns it into tensors.

    Args:
        data: datalist entries.
        scheme: the classes.
        fields_of_view: the network's input, finest first.
        target: field of view that the network predicts.
        transform: applied to every item.
        min_labelled: share of a target of which more must be annotated.
        stride: step of the grid of targets in target pixels; the target's size by default.
        snap: see :class:`PatchReader`.
        cache_dir: folder for cached patch indexes.
        elastic_copies, class_priority: class balancing (:func:`balance_by_elastic_deformation`); none without the
            former.
        allow_missing: classes that may have no labelled pixel; ``None`` allows all.
        training: whether a network learns from these patches. Training needs two classes, and a warning names missing
            ones.
        elsewhere: add the centre of another patch of the slide, for :class:`ContextReliance`.
        tissue: add whether Otsu's threshold finds tissue in the target, for :class:`SlideConfusion`.
        balance_plot: path of a plot of labelled pixels before and after balancing.
        packed: cache from which patches are read instead of from the slides; missing patches are packed first.
        chosen: subset of the patches; all by default.
        within: field of view of tiles whose borders no target may cross; see :class:`TargetGrid`.
        tissue_only: leave out targets in which Otsu's threshold finds no tissue.
        seed: random seed of deformations and of centres elsewhere.

    Raises:
        ValueError: there is no patch, a class has no labelled pixel, or training has a single class.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        scheme: ClassScheme,
        fields_of_view: Sequence[FieldOfView | Mapping[str, Any]],
        target: FieldOfView | Mapping[str, Any],
        transform: Callable[[dict[str, Any]], Any] | None = None,
        min_labelled: float = 0.01,
        stride: int | None = None,
        snap: float = 0.03,
        cache_dir: str | Path | None = None,
        elastic_copies: Mapping[str, int] | None = None,
        class_priority: Sequence[str] = (),
        allow_missing: Sequence[str] | None = (),
        elsewhere: bool = False,
        tissue: bool = False,
        balance_plot: str | Path | None = None,
        patch_cache: PatchCache | None = None,
        chosen: PatchSubset | PatchesPerClass | None = None,
        within: FieldOfView | Mapping[str, Any] | None = None,
        tissue_only: bool = False,
        seed: int = 0,
        training: bool = False,
    ) -> None:
        self.data, self.scheme, self.transform, self.seed = list(data), scheme, transform, seed
        reader = PatchReader(fields_of_view, snap=snap)
        tile = None if within is None else FieldOfView.from_config(within)
        grid = TargetGrid(reader, FieldOfView.from_config(target), min_labelled, stride, tile)
        before = build_patch_index(self.data, scheme, grid, cache_dir)
        if tissue_only:
            before = before.select(_on_tissue(before, FieldOfView.from_config(target), reader, self.data))
        if chosen is not None:
            before = chosen.apply(before)
        self.allow_missing = allow_missing
        self._check_classes(before, training)
        self.index = before
        if elastic_copies:
            self.index = balance_by_elastic_deformation(before, elastic_copies, class_priority, seed)
        if balance_plot is not None:
            plot_class_balance(before, self.index, scheme, balance_plot)
            logger.info("labelled pixels before and after balancing: %s", balance_plot)
        self._elsewhere = _centres_elsewhere(self.index, reader, self.data, seed) if elsewhere else None
        self._on_tissue = _on_tissue(self.index, FieldOfView.from_config(target), reader, self.data) if tissue else None
        self._patch_cache = patch_cache
        if patch_cache is not None:
            patch_cache.pack(self.data, self.index)
        logger.info("%d patches (%d before balancing) of %d slides", len(self), len(before.rows), len(self.data))

    def __len__(self) -> int:
        return len(self.index.rows)

    def __getitem__(self, draw: int | Draw) -> Any:
        """Return an item; a :class:`Draw` also seeds the random transforms."""
        position = draw.position if isinstance(draw, Draw) else draw
        if isinstance(draw, Draw) and isinstance(self.transform, Randomizable):
            self.transform.set_random_state(draw.seed)
        row = self.index.rows.iloc[position]
        item = dict(self.data[int(row["slide"])])
        item["slide"] = int(row["slide"])
        item["center"] = (float(row["row"]), float(row["column"]))
        item["deformation"] = int(row["deformation"])
        if self._elsewhere is not None:
            item["elsewhere_center"] = tuple(self._elsewhere[position].tolist())
        if self._on_tissue is not None:
            item["tissue"] = bool(self._on_tissue[position])
        if self._patch_cache is not None:
            # Packed patches are deformed already.
            item.update(self._patch_cache.read(item["slide"], position), deformation=-1)
        return self.transform(item) if self.transform is not None else item

    def class_weights(self, weighting: str = "complement") -> list[float]:
        """Return :func:`common.data.class_weights` of the labelled pixels, after balancing."""
        return class_weights(self.index.pixels_per_class(), weighting)

    def allows_missing(self, name: str) -> bool:
        """Return whether a class may have no labelled pixel."""
        return self.allow_missing is None or name in self.allow_missing

    def annotated_classes(self) -> list[str]:
        """Return the names of the classes that have a labelled pixel, in label order."""
        counts = zip(self.index.class_names, self.index.pixels_per_class(), strict=True)
        return [name for name, count in counts if count]

    def _check_classes(self, index: PatchIndex, training: bool) -> None:
        counts = dict(zip(index.class_names, index.pixels_per_class(), strict=True))
        missing = [name for name, count in counts.items() if count == 0]
        refused = [name for name in missing if not self.allows_missing(name)]
        if refused:
            raise ValueError(
                f"no labelled pixel of {', '.join(refused)} in {len(self.data)} slides: the network could never "
                "learn it. Annotate it, take it out of the class scheme, or name it in allow_missing"
            )
        if not missing:
            return
        if not training:
            logger.info("no labelled pixel of %s in %d slides", ", ".join(missing), len(self.data))
            return
        present = [name for name in counts if name not in missing]
        if len(present) < 2:
            raise ValueError(
                f"{present[0]} is the only class annotated in the {len(self.data)} training slides: there is nothing "
                "to tell it from. Annotate a second class, or say what unannotated pixels are with the datalist's "
                '"unannotated"'
            )
        logger.warning(
            "no labelled pixel of %s in the %d training slides: the network will not learn %s",
            ", ".join(missing),
            len(self.data),
            "it" if len(missing) == 1 else "them",
        )


def _centres_elsewhere(
    index: PatchIndex, reader: PatchReader, data: Sequence[Mapping[str, Any]], seed: int
) -> np.ndarray:
    """Return another centre in the same slide for each row, ``(rows, 2)`` in level-0 pixels.

    It is the centre of another patch at least the extent of the widest view away, or else the farthest corner of the
    slide. If a slide lies in one tile, it is the glass next to it.
    """
    rng = np.random.default_rng(seed)
    store = SlideStore()
    centres = index.rows[["row", "column"]].to_numpy()
    slides = index.rows["slide"].to_numpy()
    result = np.empty_like(centres)
    for number in np.unique(slides):
        slide = store.slide(data[number])
        here = np.nonzero(slides == number)[0]
        last = (slide.shape[0] - 1.0, slide.shape[1] - 1.0)
        corners = np.array([[0, 0], [0, last[1]], [last[0], 0], last])
        extent = max(slide.level0_pixels(reader.fields_of_view[-1].extent))
        for position in here:
            distance = np.abs(centres[here] - centres[position]).max(axis=1)
            far = here[distance >= extent]
            others = centres[far] if len(far) else corners[[np.abs(corners - centres[position]).max(axis=1).argmax()]]
            result[position] = others[rng.integers(len(others))]
            if reader.shares_tile(slide, centres[position], result[position]):
                result[position] = centres[position] + (extent, 0)
    return result


def _on_tissue(
    index: PatchIndex, target: FieldOfView, reader: PatchReader, data: Sequence[Mapping[str, Any]]
) -> np.ndarray:
    """Return whether the target of each row touches tissue, by the same rule as in inference."""
    store = SlideStore()
    result = np.zeros(len(index.rows), dtype=bool)
    slides = index.rows["slide"].to_numpy()
    centres = index.rows[["row", "column"]].to_numpy()

    def of_slide(number: int) -> list[bool]:
        slide = store.slide(data[number])
        mask = tissue_mask(slide)
        height, width = slide.level0_pixels(reader.effective_mpp(slide, target.mpp) * target.size)
        corners = centres[slides == number] - (height / 2, width / 2)
        return [mask.any(top, left, height, width) for top, left in corners.tolist()]

    numbers = np.unique(slides).tolist()
    for number, on_tissue in zip(numbers, map_distributed(of_slide, numbers, "finding tissue"), strict=True):
        result[slides == number] = on_tissue
    return result


class SlideDataset(Dataset):
    """A dataset of whole slides to segment.

    An item is a slide's datalist entry with the ``name`` of its output folder. All regions of a slide in a datalist are
    one item.

    Args:
        slides: paths, globs or datalists; see :func:`slide_items`.
        section: section to read of a datalist.
        mpp: µm/px of slides whose entry has none, instead of the file's own value.
        name_by: column that names the output folders; the file's name by default.
        series: number of the image in the file, for slides whose entry has none.

    Raises:
        ValueError: a slide has no name, or two slides share a folder.
    """

    def __init__(
        self,
        slides: Any,
        section: str = "testing",
        mpp: float | None = None,
        name_by: str | None = None,
        series: int | None = None,
    ) -> None:
        items = merge_by_slide(with_defaults(slide_items(slides, section), mpp, series))
        names = output_names(items, name_by)
        self.items = [{**item, "name": name} for item, name in zip(items, names, strict=True)]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, position: int) -> dict[str, Any]:
        return dict(self.items[position])
