"""Whole slides, written in another style."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from ..data import output_names
from ..data.styled_slides import MADE, note_styled_slides
from ..files import atomic_write, safe_name, write_json
from ..literal import as_path
from ..outputs.pyramid import TILE, write_image_pyramid
from ..slides import FieldOfView, PatchReader, Slide, open_entry, read_options
from .generator import MARGIN, StyleGenerator

logger = logging.getLogger(__name__)

# Slides in the picture of patches before and after.
_SHOWN = 4


class SlideRestyler:
    """Writes slides in the style of a trained generator, for :class:`common.data.RandStyledSlided`.

    In ``folder`` it writes

    - ``<style>/<slide>.tif``: pyramids at ``mpp`` that cover the slides;
    - ``<style>/made.json``: the generator and the slides' files;
    - ``<style>.png``: patches before and after;
    - ``styled.json``: the styles that the folder has of each slide.

    Slides already written from the same files by the same generator are kept.

    Args:
        generator: trained :class:`StyleGenerator`.
        slides: entries of a datalist.
        folder: folder of styled slides, shared by several styles.
        style: name of the style.
        mpp: µm per pixel of the finest view.
        device: device that the generator runs on.
        seed: random seed of each slide's style and noise.

    Raises:
        ValueError: two slides have one name.

    Example::

        SlideRestyler(generator, [{"image": "a.svs"}], "output/styled", style="B", mpp=0.5).run()
    """

    def __init__(
        self,
        generator: StyleGenerator,
        slides: Sequence[Mapping[str, Any]],
        folder: str | Path,
        style: str,
        mpp: float,
        device: str | torch.device = "cpu",
        seed: int = 0,
    ) -> None:
        self.generator, self.slides = generator, list(slides)
        self.folder, self.style = Path(as_path(folder)), safe_name(style)
        self.mpp, self.device, self.seed = mpp, torch.device(device), seed
        self._reader = PatchReader([FieldOfView(mpp, TILE)])
        self.names = output_names(self.slides)

    def run(self) -> None:
        """Write the missing slides.

        Raises:
            ValueError: the style's slides were made by another generator or at another µm/px.
            SlideError: a slide cannot be read.
        """
        self.generator.eval()
        made = self._open_record()
        shown: list[np.ndarray] = []
        for number, entry in enumerate(tqdm(self.slides, desc=f"restyling as {self.style}", unit="slide")):
            slide = open_entry(entry)
            path = self.folder / self.style / f"{self.names[number]}.tif"
            torch.manual_seed(self.seed + number)
            latent = torch.randn(1, self.generator.latent, device=self.device)
            state = slide.files.state
            source: dict[str, Any] = {"bytes": state.size, "modified": state.modified}
            source |= {"read": read_options(entry)} if read_options(entry) else {}
            if not path.exists() or made["slides"].get(path.stem) != source:
                self._write(path, slide, latent)
                made["slides"][path.stem] = source
                write_json(path.with_name(MADE), made)
            if len(shown) < _SHOWN:
                shown.append(self._before_and_after(slide, latent))
            slide.close()
        note_styled_slides(self.folder)
        with atomic_write(self.folder / f"{self.style}.png") as partial:
            Image.fromarray(np.concatenate(shown, axis=1)).save(partial)
        logger.info("slides in the style %s: %s, patches before and after in the same folder", self.style, self.folder)

    def _open_record(self) -> dict[str, Any]:
        """Return the style's record, a new one if there is none.

        Raises:
            ValueError: the record is of another generator or µm/px.
        """
        path = self.folder / self.style / MADE
        digest = hashlib.sha256()
        for value in self.generator.state_dict().values():
            digest.update(value.detach().cpu().numpy().tobytes())
        made = {"weights": digest.hexdigest(), "mpp": self.mpp, "seed": self.seed}
        if not path.exists():
            return {**made, "slides": {}}
        found = json.loads(path.read_text(encoding="utf-8"))
        if any(found[key] != value for key, value in made.items()):
            raise ValueError(
                f"{path.parent}: slides made by another generator, or at other µm/px. Name another style or "
                "styled_dir, or delete this folder"
            )
        return found

    def _write(self, path: Path, slide: Slide, latent: torch.Tensor) -> None:
        mpp = self._reader.effective_mpp(slide, self.mpp)
        shape = tuple(round(side / pixel) for side, pixel in zip(slide.shape, slide.level0_pixels(mpp), strict=True))
        write_image_pyramid(path, self._bands(slide, mpp, shape, latent), (shape[0], shape[1]), mpp)

    def _bands(self, slide: Slide, mpp: float, shape: tuple[int, ...], latent: torch.Tensor) -> Iterator[np.ndarray]:
        pixel = slide.level0_pixels(mpp)
        for top in tqdm(range(0, shape[0], TILE), desc=slide.name, unit="band", leave=False):
            tiles = []
            for left in range(0, shape[1], TILE):
                height, width = min(TILE, shape[0] - top), min(TILE, shape[1] - left)
                center = ((top + TILE / 2) * pixel[0], (left + TILE / 2) * pixel[1])
                around = self._reader.read_view(slide, 0, center, TILE + 2 * MARGIN)
                tiles.append(self._restyled(around, latent)[MARGIN : MARGIN + height, MARGIN : MARGIN + width])
            yield np.concatenate(tiles, axis=1)

    def _restyled(self, pixels: np.ndarray, latent: torch.Tensor) -> np.ndarray:
        image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float()[None].to(self.device) / 255
        with torch.no_grad():
            made = self.generator(image, latent)[0]
        return (made * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy().transpose(1, 2, 0)

    def _before_and_after(self, slide: Slide, latent: torch.Tensor) -> np.ndarray:
        """Return the middle of a slide, and below it the same in the new style."""
        center = (slide.shape[0] / 2, slide.shape[1] / 2)
        before = self._reader.read_view(slide, 0, center, TILE + 2 * MARGIN)
        inner = slice(MARGIN, MARGIN + TILE)
        return np.concatenate([part[inner, inner] for part in (before, self._restyled(before, latent))], axis=0)
