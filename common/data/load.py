"""Load a patch and its labels around one centre."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.transforms import MapTransform

from ..classes import ClassScheme
from ..renamed_keys import takes_old_names
from ..slides import FieldOfView, PatchReader, Slide, SlideError, read_options
from .store import SlideStore

# Key of the arguments with which the slide of a patch was opened.
READ_FROM = "read_from"


@takes_old_names
class LoadMultiMagnificationPatchd(MapTransform):
    """Replace a slide's path by the patch around ``center``, and an annotation's path by the target's label map.

    The patch lies ``offset`` µm from ``center``, and comes from the slide ``styled``, if the item has these. A patch
    that was read already (:class:`PatchCache`) is kept. The arguments with which the slide was opened are added as
    ``read_from``.

    Args:
        keys: key of the slide (``"image"``). Its patch is ``(3·S, H, W)`` uint8, finest view first.
        fields_of_view: the views, finest first.
        label_key: key of the annotation. Its label maps are ``(T, h, w)`` uint8. None reads no labels.
        target: field of view of the label map; needed with ``label_key``.
        auxiliary_targets: fields of view of further label maps, around the same centre and of the same size in pixels,
            for network outputs besides the final one.
        scheme: classes of the annotation; needed with ``label_key``.
        fill, resample, snap: see :class:`PatchReader`.
        elsewhere_key: key of the patch around ``elsewhere_center``, if the item has one.

    Raises:
        SlideError, AnnotationError: the slide or annotation cannot be read.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        fields_of_view: Sequence[FieldOfView | Mapping[str, Any]],
        label_key: str | None = "label",
        target: FieldOfView | Mapping[str, Any] | None = None,
        scheme: ClassScheme | None = None,
        fill: str = "white",
        resample: str = "area",
        snap: float = 0.03,
        elsewhere_key: str = "elsewhere",
        auxiliary_targets: Sequence[FieldOfView | Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(keys)
        if label_key is not None and (target is None or scheme is None):
            raise ValueError("reading labels needs target and scheme")
        self.reader = PatchReader(fields_of_view, fill, resample, snap)
        self.targets = [FieldOfView.from_config(view) for view in (target, *auxiliary_targets) if view is not None]
        if len({view.size for view in self.targets}) > 1:
            raise ValueError(f"targets must have one size, not {', '.join(str(view.size) for view in self.targets)}")
        self.label_key, self.elsewhere_key = label_key, elsewhere_key
        self._store = SlideStore(scheme)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        offset, styled = result.pop("offset", None), result.pop("styled", None)
        for key in self.key_iterator(result):
            if isinstance(result[key], np.ndarray):
                if offset is not None or styled is not None:
                    raise ValueError(
                        "a packed patch cannot be taken from elsewhere: leave x-y jitter and styles out, or packing"
                    )
                continue
            entry: dict[str, Any] = {**{str(name): value for name, value in data.items()}, "image": data[key]}
            slide = self._store.slide(entry)
            center = _moved(slide, result["center"], offset)
            result[key] = self._image(slide, center, styled)
            result[READ_FROM] = _read_from(entry, styled)
            if "elsewhere_center" in result:
                result[self.elsewhere_key] = self.reader.read(slide, result["elsewhere_center"])
            if self.label_key is not None:
                result[self.label_key] = self._labels(slide, {**entry, "label": data.get(self.label_key)}, center)
        return result

    def _image(self, slide: Slide, center: tuple[float, float], styled: str | None) -> np.ndarray:
        """Return the patch, from the slide or from its styled version, which may have another µm/px."""
        if styled is None:
            return self.reader.read(slide, center)
        other = self._store.slide({"image": styled})
        _check_version(other, slide, self.reader.fields_of_view[0].mpp)
        steps = zip(self.reader.align(slide, center), slide.level0_pixels(1.0), other.level0_pixels(1.0), strict=True)
        down, across = (place / pixel * there for place, pixel, there in steps)
        return self.reader.read(other, (down, across))

    def _labels(self, slide: Slide, entry: Mapping[str, Any], center: tuple[float, float]) -> np.ndarray:
        labels, at = self._store.labels(entry), self.reader.align(slide, center)
        return np.stack(
            [
                labels.label_map(slide, at, self.reader.effective_mpp(slide, view.mpp), view.size)
                for view in self.targets
            ]
        )


def _check_version(other: Slide, slide: Slide, mpp: float) -> None:
    """Check that a styled version spans the same area as its slide, and is fine enough.

    Args:
        other: the styled version.
        slide: the slide.
        mpp: µm/px of the finest view.

    Raises:
        SlideError: it spans more or less, or is too coarse.
    """
    extents = zip(other.shape, other.level0_pixels(1.0), slide.shape, slide.level0_pixels(1.0), strict=True)
    apart = max(abs(side / pixel - full / own) for side, pixel, full, own in extents)
    remedy = "Make it again with configs/style_transfer.yaml"
    if apart > 1.5 * other.mpp:
        raise SlideError(other.path, f"it spans {apart:.1f} µm more or less than {slide.path.name}", remedy)
    if other.mpp > 1.03 * max(mpp, slide.mpp):
        raise SlideError(other.path, f"its {other.mpp:g} µm/px are coarser than the finest view's {mpp:g}", remedy)


def _read_from(entry: Mapping[str, Any], styled: str | None) -> dict[str, Any]:
    """Return the arguments with which the slide that was read is opened."""
    if styled is not None:
        return {"image": styled}
    return {"image": entry["image"], **read_options(entry)}


def _moved(slide: Slide, center: tuple[float, float], offset: tuple[float, float] | None) -> tuple[float, float]:
    """Return a centre in level-0 pixels moved by an offset in µm."""
    if offset is None:
        return center
    down, across = slide.level0_pixels(1.0)
    return center[0] + offset[0] * down, center[1] + offset[1] * across
