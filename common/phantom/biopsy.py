"""Write regions of interest of breast biopsies with the eight tissue labels and four diagnoses of Mehta et al. 2018."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..classes import ClassScheme
from ..data.datalist import SECTIONS
from ..files import write_json
from .layout import Layout
from .noise import hashed
from .paint import Painter
from .recipe import EPITHELIUM, FAT, NECROSIS, STROMA, Core, Ground, Nuclei, Population, Recipe, Stain, Texture
from .slide import paint_labels, paint_slide

DIAGNOSES = ("benign", "atypia", "DCIS", "invasive")

BIOPSY_CLASSES = ClassScheme(
    classes=[
        {"name": "background", "color": (200, 200, 200), "label": 1, "channel": 0},
        {"name": "benign epithelium", "color": (40, 80, 220), "label": 2, "channel": 1},
        {"name": "malignant epithelium", "color": (220, 40, 40), "label": 3, "channel": 2},
        {"name": "normal stroma", "color": (60, 170, 80), "label": 4, "channel": 3},
        {"name": "desmoplastic stroma", "color": (245, 150, 50), "label": 5, "channel": 4},
        {"name": "secretion", "color": (70, 200, 220), "label": 6, "channel": 5},
        {"name": "blood", "color": (130, 20, 90), "label": 7, "channel": 6},
        {"name": "necrosis", "color": (90, 90, 90), "label": 8, "channel": 7},
    ],
    skipped="background",
)

_ATYPICAL = replace(
    EPITHELIUM, lumen=None, nuclei=(Nuclei(spacing=7.5, radius=3.2, elongation=1.2, darkness=0.95, share=0.95),)
)
_MALIGNANT = replace(
    EPITHELIUM, lumen=None, nuclei=(Nuclei(spacing=9.5, radius=4.2, elongation=1.35, darkness=1.0, share=0.95),)
)
_DESMOPLASTIC = replace(
    STROMA,
    counterstain=0.36,
    nuclear=0.09,
    fibres=(0.10, 11.0),
    nuclei=(Nuclei(spacing=19.0, radius=2.8, elongation=2.4, darkness=0.75, share=0.85),),
)
_SECRETION = Texture(counterstain=0.30, nuclear=0.03, grain=(0.03, 9.0))
_BLOOD = Texture(
    counterstain=1.0,
    nuclear=0.02,
    grain=(0.16, 3.5),
    nuclei=(Nuclei(spacing=30.0, radius=2.4, elongation=1.0, darkness=0.9, share=0.5),),
)

# Structures by territory. Atypia and low-grade DCIS resemble each other: ducts in proliferation, few open lumens.
# Benign and malignant epithelium differ by the size of their nuclei and by their surroundings.
_POPULATIONS = (
    Population("blood", _BLOOD, "plain", radius=(14.0, 34.0), spacing=240.0, clearance=30.0),
    Population(
        "benign epithelium",
        EPITHELIUM,
        "ducts",
        radius=(45.0, 75.0),
        spacing=220.0,
        clearance=60.0,
        core=Core("secretion", _SECRETION, size=0.5, share=0.6),
    ),
    Population("benign epithelium", EPITHELIUM, "ducts", radius=(16.0, 28.0), crowding=True, clearance=14.0),
    Population(
        "benign epithelium",
        _ATYPICAL,
        "proliferation",
        radius=(50.0, 95.0),
        crowding=True,
        clearance=28.0,
        core=Core("secretion", _SECRETION, size=0.3, share=0.5),
    ),
    Population(
        "malignant epithelium",
        _MALIGNANT,
        "in situ",
        radius=(60.0, 120.0),
        crowding=True,
        clearance=32.0,
        core=Core("necrosis", NECROSIS, size=0.5, share=0.55),
    ),
    Population(
        "malignant epithelium",
        _MALIGNANT,
        "invasion",
        radius=(70.0, 110.0),
        spacing=420.0,
        clearance=20.0,
        core=Core("necrosis", NECROSIS, size=0.6),
    ),
    Population("malignant epithelium", _MALIGNANT, "invasion", radius=(12.0, 34.0), crowding=True, clearance=14.0),
    Population("blood", _BLOOD, "invasion", radius=(12.0, 26.0), spacing=260.0, clearance=10.0),
)
# Smallest and largest number, out of nine territories, of the diagnosis' own kind and of kinds that accompany it.
_TERRITORIES: dict[str, dict[str, tuple[int, int]]] = {
    "benign": {"ducts": (2, 4), "proliferation": (0, 1)},
    "atypia": {"proliferation": (2, 4), "ducts": (0, 2)},
    "DCIS": {"in situ": (2, 4), "proliferation": (0, 1), "ducts": (0, 1)},
    "invasive": {"invasion": (3, 6), "in situ": (0, 1), "ducts": (0, 1)},
}
_ALL, _FAT = 9, (0, 2)


def biopsy_recipe(diagnosis: str, seed: int) -> Recipe:
    """Return the recipe of a region with a diagnosis.

    Args:
        diagnosis: one of :data:`DIAGNOSES`. It decides how much of the region is normal ducts, ducts in proliferation,
            carcinoma in situ (with necrosis) and carcinoma that invades desmoplastic stroma.
        seed: random seed of the mixture.

    Raises:
        ValueError: the diagnosis is unknown.
    """
    if diagnosis not in DIAGNOSES:
        raise ValueError(f"diagnosis must be one of {', '.join(DIAGNOSES)}, not {diagnosis!r}")
    territories: list[str] = []
    mixture = {**_TERRITORIES[diagnosis], "fat": _FAT}
    for draw, (kind, (low, high)) in zip(hashed(seed, 0xD1A6, np.arange(len(mixture))), mixture.items(), strict=True):
        territories += [kind] * (low + int(draw * (high - low + 1)))
    territories += ["plain"] * (_ALL - len(territories))
    return Recipe(
        scheme=BIOPSY_CLASSES,
        territories=tuple(territories),
        glass="background",
        grounds=(
            Ground("normal stroma", STROMA),
            Ground("background", FAT, territory="fat", wavelength=260.0, level=-0.3),
            Ground("desmoplastic stroma", _DESMOPLASTIC, territory="invasion", level=-math.inf, clear_of=-math.inf),
        ),
        populations=_POPULATIONS,
        annotated={},
        territory_size=450.0,
        plain_surroundings=20.0,
    )


def write_breast_biopsies(
    root: str | Path,
    training: int = 24,
    validation: int = 8,
    testing: int = 120,
    size: int = 1280,
    mpp: float = 1.0,
    seed: int = 0,
) -> Path:
    """Write regions of interest, one to three per case, with full label maps and diagnoses.

    Args:
        root: folder to write to: ``regions/<case>_<letter>.tif``, ``labels/<case>_<letter>_labels.tif`` and
            ``datalist.json``, whose entries have ``case``, ``diagnosis``, ``stain`` and ``synthetic``. A case has one
            diagnosis, one laboratory's dyes, and is in one section.
        training, validation, testing: number of regions in each section; diagnoses alternate from case to case.
        size: mean pixels per side; each side of each region is between three and five quarters of that.
        mpp: µm/px.
        seed: random seed.

    Returns:
        the datalist's path.
    """
    root = Path(root)
    wanted = dict(zip(SECTIONS, (training, validation, testing), strict=True))
    datalist: dict[str, list[dict[str, Any]]] = {section: [] for section in SECTIONS}
    case = 0
    with tqdm(total=sum(wanted.values()), desc="painting regions", unit="region", delay=2) as progress:
        for section, count in wanted.items():
            while len(datalist[section]) < count:
                regions = min(1 + int(hashed(seed, 0xCA5E, case) * 3), count - len(datalist[section]))
                for entry in _case(root, case, regions, size, mpp, seed):
                    datalist[section].append(entry)
                    progress.update()
                case += 1
    path = root / "datalist.json"
    write_json(path, datalist)
    return path


def _case(root: Path, case: int, regions: int, size: int, mpp: float, seed: int) -> Iterator[dict[str, Any]]:
    """Paint a case's regions, and yield their datalist entries."""
    diagnosis = DIAGNOSES[case % len(DIAGNOSES)]
    stain = _stain(seed, case)
    for number in range(regions):
        name = f"case_{case:03d}_{'abc'[number]}"
        own = seed + 3 * case + number
        draw = hashed(own, 0x512E, np.arange(2))
        height, width = (int(size * (0.75 + 0.5 * side)) for side in draw)
        recipe = replace(biopsy_recipe(diagnosis, own), stain=stain)
        painter = Painter(Layout(recipe, own, height * mpp, width * mpp), mpp)
        image, labels = root / "regions" / f"{name}.tif", root / "labels" / f"{name}_labels.tif"
        paint_labels(labels, painter, (height, width))
        paint_slide(image, painter, (height, width))
        paths = {"image": image.relative_to(root).as_posix(), "label": labels.relative_to(root).as_posix()}
        yield {**paths, "case": f"case_{case:03d}", "diagnosis": diagnosis, "stain": "H&E", "synthetic": True}


def _stain(seed: int, case: int) -> Stain:
    """Return a case's dyes, which vary as those of laboratories do."""
    plain, draw = Stain(), hashed(seed, 0x57A1, case, np.arange(2)) - 0.5
    nuclear = np.array(plain.nuclear) * (1 + 0.2 * draw[0])
    counterstain = np.array(plain.counterstain) * (1 + 0.2 * draw[1])
    return Stain((nuclear[0], nuclear[1], nuclear[2]), (counterstain[0], counterstain[1], counterstain[2]))
