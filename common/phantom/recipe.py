"""Recipes of phantoms. A new kind of tissue, scheme or stain is a new recipe: data, not code."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ..classes import ClassScheme


@dataclass(frozen=True)
class Nuclei:
    """Nuclei (or other dark bodies) scattered at ``spacing`` µm: mean ``radius`` in µm, length over width, darkness."""

    spacing: float
    radius: float
    elongation: float = 1.2
    darkness: float = 1.0
    share: float = 1.0


@dataclass(frozen=True)
class Texture:
    """The stained appearance of a tissue.

    Args:
        counterstain: amount of the second stain (eosin).
        nuclear: amount of the first stain (haematoxylin) outside nuclei.
        grain: (amplitude, wavelength in µm) of fine variation.
        fibres: (amplitude, width in µm) of wavy bundles.
        nuclei: bodies in it.
        lumen: (spacing, radius) in µm of empty round spaces.
        cells: diameter in µm of empty cells of which only the membranes stain (fat).
        expresses: share of its cells that an immunostain marks, relative to the stain's own ``positive``.
    """

    counterstain: float
    nuclear: float
    grain: tuple[float, float] = (0.05, 4.0)
    fibres: tuple[float, float] | None = None
    nuclei: tuple[Nuclei, ...] = ()
    lumen: tuple[float, float] | None = None
    cells: float | None = None
    expresses: float = 0.0


@dataclass(frozen=True)
class Ground:
    """Tissue that fills space: ``class_name`` where a field of ``wavelength`` µm is above ``level`` in its territory.

    With ``clear_of``, it is only where every structure is farther away than that many µm; with -inf, structures lie in
    it.
    """

    class_name: str
    texture: Texture
    territory: str = ""
    wavelength: float = 300.0
    level: float = 0.0
    clear_of: float | None = None


@dataclass(frozen=True)
class Core:
    """The filling in the middle of a ``share`` of structures, up to ``size`` of their radius."""

    class_name: str
    texture: Texture
    size: float
    share: float = 1.0


@dataclass(frozen=True)
class Population:
    """Compact structures of one class, tried at random places and kept where there is room.

    Args:
        class_name: class of the structures.
        texture: their texture.
        territory: kind of territory that they are in.
        radius: smallest and largest mean radius in µm.
        spacing: µm between the places tried; small values pack the territory full.
        crowding: whether further structures are tried as near to each placed one as ``clearance`` allows.
        clearance: smallest gap in µm, outline to outline, to any structure placed before.
        neighbours: structures with fewer neighbours of their own class within ``neighbour_gap`` µm are removed.
        neighbour_gap: see ``neighbours``.
        aligned: whether long axes follow a smooth field (segments of ducts) instead of random directions.
        core: filling of their middle.
    """

    class_name: str
    texture: Texture
    territory: str
    radius: tuple[float, float] = (55.0, 85.0)
    spacing: float = 60.0
    crowding: bool = False
    clearance: float = 110.0
    neighbours: int = 0
    neighbour_gap: float = 250.0
    aligned: bool = False
    core: Core | None = None


@dataclass(frozen=True)
class Stain:
    """Optical densities (red, green, blue) of dyes at full strength.

    Args:
        nuclear: dye of nuclei; at a lower amount, of cells.
        counterstain: dye of everything else.
        marker: dye of an antibody.
        marks: target of the antibody: ``"nuclei"``, which then have this dye instead of the nuclear one, or
            ``"membranes"``; empty for stains without an antibody.
        positive: share of cells that it marks in a texture with ``expresses`` 1.
    """

    nuclear: tuple[float, float, float] = (1.05, 1.15, 0.48)
    counterstain: tuple[float, float, float] = (0.06, 0.72, 0.22)
    marker: tuple[float, float, float] = (0.0, 0.0, 0.0)
    marks: str = ""
    positive: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """A kind of slide.

    Args:
        scheme: the classes; every class is made by a ground or a population.
        territories: kinds of area, distributed over the slide in equal numbers, one per entry.
        glass: class outside tissue.
        grounds: tissues that fill space; the first fills all tissue, later ones lie over it.
        populations: structures, placed in this order.
        annotated: class -> share of all pixels to annotate.
        stain: the dyes.
        territory_size: µm per side of one area.
        plain_surroundings: µm around every structure that only the first ground, or another structure, may occupy.
    """

    scheme: ClassScheme
    territories: tuple[str, ...]
    glass: str
    grounds: tuple[Ground, ...]
    populations: tuple[Population, ...]
    annotated: dict[str, float]
    stain: Stain = Stain()
    territory_size: float = 1500.0
    plain_surroundings: float = 110.0


EPITHELIUM = Texture(
    counterstain=0.40,
    nuclear=0.24,
    grain=(0.06, 5.0),
    nuclei=(Nuclei(spacing=8.0, radius=3.1, elongation=1.25, darkness=0.95, share=0.93),),
    lumen=(44.0, 7.0),
)
STROMA = Texture(
    counterstain=0.46,
    nuclear=0.05,
    grain=(0.06, 7.0),
    fibres=(0.14, 6.5),
    nuclei=(
        Nuclei(spacing=24.0, radius=2.3, elongation=2.6, darkness=0.85, share=0.8),
        Nuclei(spacing=60.0, radius=2.9, elongation=1.05, darkness=1.15, share=0.6),
    ),
)
NECROSIS = Texture(
    counterstain=0.66,
    nuclear=0.13,
    grain=(0.17, 3.0),
    nuclei=(Nuclei(spacing=9.0, radius=1.2, elongation=1.0, darkness=0.8, share=0.7),),
)
FAT = Texture(counterstain=0.34, nuclear=0.03, grain=(0.04, 6.0), cells=55.0)

BREAST_CLASSES = ClassScheme(
    classes=[
        {"name": "carcinoma", "color": (220, 40, 40), "label": 1, "channel": 1},
        {"name": "benign epithelial", "color": (40, 80, 220), "label": 2, "channel": 2},
        {"name": "background", "color": (240, 220, 60), "label": 3, "channel": 3},
        {"name": "stroma", "color": (60, 170, 80), "label": 4, "channel": 4},
        {"name": "necrotic", "color": (128, 128, 128), "label": 5, "channel": 5},
        {"name": "adipose", "color": (245, 150, 50), "label": 6, "channel": 6},
    ],
    skipped="background",
    unnamed_channels=[0],
)

# Carcinoma and benign epithelium have the same shapes and texture, and no structure, fat or tissue edge is nearer than
# 110 µm to either: within 96 µm of any of their pixels both look alike by construction. They differ only farther away:
# nests of carcinoma crowd at 110 to 170 µm, while benign lobules and segments of ducts lie alone, at least 260 µm from
# anything. The nests are small and crowded because a pixel of a five-level U-Net at 2 µm/px hardly responds to anything
# beyond 190 µm, although its view is larger.
_NEST = (30.0, 46.0)
BREAST = Recipe(
    scheme=BREAST_CLASSES,
    territories=("tumour", "normal", "tumour", "normal", "fat"),
    glass="background",
    grounds=(
        Ground("stroma", STROMA),
        Ground("adipose", FAT, territory="fat", wavelength=260.0, level=0.2),
        Ground("adipose", FAT, territory="normal", wavelength=330.0, level=1.4),
    ),
    populations=(
        Population("necrotic", NECROSIS, "tumour", radius=(60.0, 100.0), spacing=900.0),
        Population("carcinoma", EPITHELIUM, "tumour", radius=_NEST, crowding=True, neighbours=2, neighbour_gap=170.0),
        Population("benign epithelial", EPITHELIUM, "normal", radius=_NEST, clearance=260.0, aligned=True),
    ),
    annotated={
        "carcinoma": 0.013,
        "benign epithelial": 0.013,
        "necrotic": 0.006,
        "stroma": 0.012,
        "adipose": 0.006,
        "background": 0.004,
    },
)

METASTASIS_CLASSES = ClassScheme(
    classes=[
        {"name": "normal", "color": (60, 170, 80), "label": 1, "channel": None},
        {"name": "tumour", "color": (220, 40, 40), "label": 2, "channel": 0},
    ],
    activation="sigmoid",
    skipped="normal",
)
_LYMPHOCYTES = Texture(
    counterstain=0.20,
    nuclear=0.16,
    grain=(0.05, 6.0),
    nuclei=(
        Nuclei(spacing=7.0, radius=2.5, elongation=1.08, darkness=1.05, share=0.86),
        Nuclei(spacing=40.0, radius=3.6, elongation=1.4, darkness=0.6, share=0.6),
    ),
)
_GLANDS = replace(EPITHELIUM, counterstain=0.52, nuclear=0.22)
_GERMINAL_CENTRE = Texture(
    counterstain=0.30,
    nuclear=0.12,
    grain=(0.06, 8.0),
    nuclei=(Nuclei(spacing=9.5, radius=3.3, elongation=1.15, darkness=0.62, share=0.85),),
)

# Metastases and benign inclusions (glands caught in a node, which are mistaken for metastases in practice) have the
# same shapes, texture and distances, each in lymphoid tissue with nothing else within 110 µm: within 96 µm of a pixel,
# a window of 1.5 views of 256 pixels at 0.5 µm/px, both look alike by construction. Only farther away there is fibrous
# tissue around metastases, and none around inclusions.
_GLAND, _RIM = (40.0, 65.0), 110.0
LYMPH_NODE = Recipe(
    scheme=METASTASIS_CLASSES,
    territories=("metastatic", "cortex", "metastatic", "cortex", "hilum"),
    glass="normal",
    grounds=(
        Ground("normal", _LYMPHOCYTES),
        Ground("normal", FAT, territory="hilum", wavelength=300.0, level=0.8),
        Ground("normal", STROMA, territory="metastatic", level=-math.inf, clear_of=_RIM),
    ),
    populations=(
        Population("normal", _GERMINAL_CENTRE, "cortex", radius=(90.0, 140.0), spacing=850.0, clearance=2 * _RIM),
        Population("tumour", _GLANDS, "metastatic", radius=_GLAND, crowding=True, clearance=2.1 * _RIM),
        Population("normal", _GLANDS, "cortex", radius=_GLAND, crowding=True, clearance=2.1 * _RIM),
    ),
    annotated={"tumour": 0.02, "normal": 0.03},
)
NORMAL_LYMPH_NODE = replace(LYMPH_NODE, territories=("cortex", "cortex", "hilum"))

RECIPES = {"breast": BREAST, "lymph_node": LYMPH_NODE, "normal_lymph_node": NORMAL_LYMPH_NODE}
