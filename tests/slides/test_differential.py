"""Random TIFFs: our pixels are the scan's as tifffile decodes it, laid on white, or the file is refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile

from common.slides import SlideError
from common.slides.backends import open_backend

BACKENDS = ("auto", "tiff", "openslide", "image")
COMPRESSIONS = ("none", "lzw", "adobe_deflate", "packbits", "zstd", "jpeg2000", "webp")
PHOTOMETRICS = ("rgb", "rgb", "rgb", "minisblack", "miniswhite", "palette")
ALPHAS = (None, None, "unassalpha", "assocalpha", "unspecified")
LAYOUTS = ("one", "pages", "pages", "unmarked", "subifds", "thumbnail first", "macro first", "planes", "two scans")
# OpenSlide's colours went through 8 bits of multiplied alpha, and those of 16 bits are its.
TOLERANCE, OPENSLIDE_TOLERANCE = 1, 3


@dataclass
class Case:
    """One random TIFF: how it is written, and the pages that are the scan's levels (none: it must be refused)."""

    options: dict
    layout: str
    bits: int
    bigtiff: bool
    byteorder: str
    alpha: str | None
    scan: list[int]


def draw(rng: np.random.Generator) -> Case:
    photometric, alpha = str(rng.choice(PHOTOMETRICS)), rng.choice(np.array(ALPHAS, dtype=object))
    alpha = None if photometric == "palette" else alpha
    options = {"photometric": photometric, "metadata": None, "compression": str(rng.choice(COMPRESSIONS))}
    if rng.random() < 0.8:
        options["tile"] = (int(rng.choice([16, 32, 64])), int(rng.choice([16, 32])))
    else:
        options["rowsperstrip"] = int(rng.integers(3, 70))
    if alpha is not None:
        options["extrasamples"] = [alpha]
    samples = (3 if photometric == "rgb" else 1) + (alpha is not None)
    if samples > 1:
        options["planarconfig"] = str(rng.choice(["contig", "contig", "separate"]))
    if photometric == "palette":
        options["colormap"] = rng.integers(0, 256, (3, 256)).astype(np.uint16) * 257
    bits = 16 if photometric != "palette" and rng.random() < 0.15 else 8
    if options["compression"] == "webp" and (bits != 8 or samples not in (3, 4) or options["planarconfig"] != "contig"):
        options["compression"] = "lzw"
    if options["compression"] in ("jpeg2000", "webp"):
        lossless = {"level": 0, "reversible": True} if options["compression"] == "jpeg2000" else {"lossless": True}
        options["compressionargs"] = lossless if options["compression"] == "jpeg2000" else {"level": 100, **lossless}
    elif options["compression"] in ("lzw", "adobe_deflate", "zstd") and photometric != "palette":
        options["predictor"] = bool(rng.random() < 0.5)
    if options["compression"] == "none":
        options["compression"] = None
    layout = str(rng.choice(LAYOUTS))
    return Case(options, layout, bits, bool(rng.random() < 0.3), str(rng.choice(["<", ">"])), alpha, [])


def pixels(case: Case, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Random pixels, a third of them transparent; of associated alpha no colour exceeds it."""
    samples = (3 if case.options["photometric"] == "rgb" else 1) + (case.alpha is not None)
    top = 2**case.bits - 1
    picture = rng.integers(0, top + 1, (height, width, samples))
    if case.alpha is not None:
        opacity = rng.choice([0, top, -1], (height, width))
        picture[..., -1] = np.where(opacity < 0, picture[..., -1], opacity)
    if case.alpha == "assocalpha":
        picture[..., :-1] = np.minimum(picture[..., :-1], picture[..., -1:])
    picture = picture.astype(np.uint16 if case.bits == 16 else np.uint8)
    if samples == 1:
        return picture[..., 0]
    return np.ascontiguousarray(picture.transpose(2, 0, 1)) if case.options["planarconfig"] == "separate" else picture


def write(case: Case, path: Path, rng: np.random.Generator) -> None:
    """Write a case. The scan is 70 x 90 pixels in level 0, and each further level half of it."""
    sizes = [(70, 90)] if case.layout in ("one", "planes", "two scans") else [(70, 90), (35, 45), (18, 23)]
    levels = [pixels(case, *size, rng) for size in sizes]
    with tifffile.TiffWriter(path, bigtiff=case.bigtiff, byteorder=case.byteorder) as writer:
        first = 0
        if case.layout == "thumbnail first":
            writer.write(pixels(case, 35, 45, rng), subfiletype=1, **case.options)
            first = 1
        elif case.layout == "macro first":
            macro = rng.integers(0, 256, (20, 50, 3), dtype=np.uint8)
            writer.write(macro, photometric="rgb", metadata=None, description="macro")
            first = 1
        for number, level in enumerate(levels):
            marked = number > 0 and case.layout != "unmarked"
            subifds = len(levels) - 1 if case.layout == "subifds" and number == 0 else None
            writer.write(level, subfiletype=int(marked), subifds=subifds, **case.options)
        if case.layout == "planes":
            writer.write(pixels(case, 70, 90, rng), **case.options)
        if case.layout == "two scans":
            writer.write(pixels(case, 90, 70, rng), **case.options)
    case.scan = [] if case.layout in ("planes", "two scans") else list(range(first, first + len(levels)))


def reference(path: Path, case: Case) -> list[np.ndarray]:
    """The scan's levels as tifffile decodes them, laid on white in floating point: ``(H, W, 3)``."""
    with tifffile.TiffFile(path) as file:
        pages = (
            [file.pages[case.scan[0]], *(file.pages[case.scan[0]].pages or [])] if case.layout == "subifds" else None
        )
        pages = pages or [file.pages[number] for number in case.scan]
        return [_on_white(page.asarray(), page, case) for page in pages]


def _on_white(stored: np.ndarray, page: tifffile.TiffPage, case: Case) -> np.ndarray:
    if stored.ndim == 2:
        stored = stored[..., None]
    elif case.options["planarconfig"] == "separate":
        stored = stored.transpose(1, 2, 0)
    top = 2**case.bits - 1
    if case.options["photometric"] == "palette":
        colours = page.colormap[:, stored[..., 0]].transpose(1, 2, 0) / 257 / 255
    else:
        colours = stored[..., : 3 if case.options["photometric"] == "rgb" else 1] / top
        colours = 1 - colours if case.options["photometric"] == "miniswhite" else colours
    opacity = stored[..., -1:] / top if case.alpha in ("unassalpha", "assocalpha") else np.ones(1)
    seen = (colours if case.alpha == "assocalpha" else colours * opacity) + 1 - opacity
    return np.broadcast_to(seen * 255, (*stored.shape[:2], 3))


def check(numbers: range, folder: Path) -> dict[str, int]:
    """Read every case through every backend; return how often each gave pixels."""
    read = dict.fromkeys(BACKENDS, 0)
    for number in numbers:
        rng = np.random.default_rng(number)
        case = draw(rng)
        path = folder / f"{number}.tif"
        write(case, path, rng)
        for backend in BACKENDS:
            try:
                found = shown(path, backend)
            except SlideError:
                continue
            assert case.scan, (number, backend, case)
            expected = reference(path, case)
            sizes = {level.shape: level for level in expected}
            assert found[0].shape == expected[0].shape, (number, backend, case)
            for level in found:
                wrong = np.abs(level - sizes[level.shape]).max()
                through_openslide = backend == "openslide" or case.bits == 16
                tolerance = OPENSLIDE_TOLERANCE if through_openslide else TOLERANCE
                assert wrong <= tolerance, (number, backend, case, wrong)
            read[backend] += 1
        path.unlink()
    return read


def shown(path: Path, backend: str) -> list[np.ndarray]:
    """Every level's own pixels."""
    layer = open_backend(path, backend)
    try:
        return [layer.read(number, 0, 0, *shape) for number, shape in enumerate(layer.level_shapes)]
    finally:
        layer.close()


def test_sixty_random_tiffs(tmp_path):
    read = check(range(60), tmp_path)
    assert read["auto"] > 20


@pytest.mark.all
@pytest.mark.parametrize("first", range(60, 1260, 200))
def test_hundreds_of_random_tiffs(tmp_path, first):
    read = check(range(first, first + 200), tmp_path)
    # Not everything may be refused.
    assert read["auto"] > 80
    assert read["tiff"] > 70
    assert read["openslide"] > 10
