"""Write breast slides of several stains, scanners and laboratories, with defects that impair reading."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import shapely
from scipy import ndimage
from skimage.color import rgb_from_hed
from tqdm import tqdm

from ..annotations import AnnotatedRegion, write_geojson
from ..classes import UNLABELLED, ClassScheme
from ..files import write_json
from ..outputs.polygons import label_polygons
from .layout import Layout
from .noise import hashed
from .paint import Painter, Scanner
from .recipe import EPITHELIUM, FAT, NECROSIS, STROMA, Ground, Population, Recipe, Stain
from .slide import paint_labels, paint_slide

MULTI_STAIN_CLASSES = ClassScheme(
    classes=[
        {"name": "normal", "color": (60, 170, 80), "label": 1, "channel": 0},
        {"name": "tumour", "color": (220, 40, 40), "label": 2, "channel": 1},
        {"name": "others", "color": (40, 80, 220), "label": 3, "channel": 2},
    ],
    skipped="normal",
)


def _dye(row: int, strength: float) -> tuple[float, float, float]:
    """Return optical densities of haematoxylin (0), eosin (1) or diaminobenzidine (2): a row of Ruifrok and Johnston's
    matrix."""
    red, green, blue = (rgb_from_hed[row] * strength).tolist()
    return red, green, blue


# Immunostains have no eosin: tissue that eosin would stain is faintly grey with the nuclear stain's hue.
_BARE = (0.16, 0.17, 0.10)
STAINS: dict[str, Stain] = {
    "H&E": Stain(),
    "ER": Stain(_dye(0, 0.95), _BARE, _dye(2, 1.9), "nuclei", positive=0.8),
    "PR": Stain(_dye(0, 1.05), _BARE, _dye(2, 1.6), "nuclei", positive=0.5),
    "Ki67": Stain(_dye(0, 1.0), _BARE, _dye(2, 2.2), "nuclei", positive=0.3),
    "HER2": Stain(_dye(0, 0.8), _BARE, _dye(2, 1.8), "membranes", positive=0.85),
}


@dataclass(frozen=True)
class ScannerModel:
    """Properties that all slides of one scanner share.

    Attributes:
        white: grey values of glass.
        gamma: exponent of brightness.
        blur_um, noise: standard deviations of blur in µm and of noise in grey values.
        quality: JPEG quality.
    """

    white: tuple[float, float, float]
    gamma: float
    blur_um: float
    noise: float
    quality: int


SCANNERS: dict[str, ScannerModel] = {
    "A": ScannerModel((243, 243, 243), 1.0, 0.30, 1.5, 90),
    "B": ScannerModel((248, 240, 224), 0.85, 0.45, 2.5, 80),
    "C": ScannerModel((226, 234, 246), 1.2, 0.35, 3.5, 70),
    "D": ScannerModel((250, 246, 252), 0.7, 0.70, 5.0, 50),
}
# Strength of a laboratory's stains: of nuclei, of everything else, and of the antibody's dye.
SOURCES: dict[str, tuple[float, float, float]] = {
    "lab 1": (1.0, 1.0, 1.0),
    "lab 2": (1.25, 0.8, 0.75),
    "lab 3": (0.8, 1.2, 1.25),
    "lab 4": (1.1, 1.35, 0.9),
    "lab 5": (0.75, 0.75, 0.7),
}
# Values that no training slide has.
UNSEEN = {"stain": "H&E", "scanner": "D", "source": "lab 5"}

# As in the breast recipe, tumour and benign glands have the same shapes and texture, with nothing else within 110 µm,
# and take up immunostains alike. They differ only by what lies beyond: other nests, or nothing.
_EPITHELIUM = replace(EPITHELIUM, expresses=1.0)
_NEST = (30.0, 46.0)
_BASE = Recipe(
    scheme=MULTI_STAIN_CLASSES,
    territories=("tumour", "benign"),
    glass="normal",
    grounds=(
        Ground("normal", STROMA),
        Ground("normal", FAT, territory="benign", wavelength=300.0, level=1.3),
    ),
    populations=(
        Population("others", NECROSIS, "tumour", radius=(50.0, 90.0), spacing=700.0),
        Population("tumour", _EPITHELIUM, "tumour", radius=_NEST, crowding=True, neighbours=2, neighbour_gap=170.0),
        Population("others", _EPITHELIUM, "benign", radius=_NEST, clearance=260.0, aligned=True),
    ),
    annotated={},
    territory_size=900.0,
)
MULTI_STAIN: dict[str, Recipe] = {name: replace(_BASE, stain=stain) for name, stain in STAINS.items()}

# Defects per mm² of tissue, their radius in µm, and their kinds.
_DEFECTS_PER_MM2 = 1.1
_DEFECT_RADIUS = (50.0, 110.0)
DEFECTS = ("fold", "bubble", "blur")
_FOLD_WIDTH = 0.28
_OUT_OF_FOCUS_UM = 5.0
# µm per pixel of the map that is outlined, and side in µm of the regions that are annotated completely.
_OUTLINED = 2.0
_REGION_UM = 640.0
_REGIONS = 3


@dataclass(frozen=True)
class Defect:
    """A defect: its kind, centre and radius in µm, and a fold's direction."""

    kind: str
    y: float
    x: float
    radius: float
    angle: float

    def within(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return the distance of points from its middle, 1 at its edge; ``y`` and ``x`` in µm, of one shape."""
        dy, dx = y - self.y, x - self.x
        if self.kind != "fold":
            return np.hypot(dy, dx) / self.radius
        along = dx * np.cos(self.angle) + dy * np.sin(self.angle)
        across = (
            dy * np.cos(self.angle) - dx * np.sin(self.angle) + 0.12 * self.radius * np.sin(3 * along / self.radius)
        )
        return np.hypot(along / (1.6 * self.radius), across / (_FOLD_WIDTH * self.radius))


class MultiStainPainter(Painter):
    """A painter of slides with defects: folds (two layers of tissue), bubbles under the cover slip, and tissue out of
    focus. Their class is "others".

    Args:
        layout: layout of a recipe of :data:`MULTI_STAIN`.
        mpp: µm/px.
        scanner: key of :data:`SCANNERS`.
        source: key of :data:`SOURCES`.
    """

    # Reach of the blur, which is cut off at three standard deviations, and of the scanner's own.
    margin_um = 3.0 * _OUT_OF_FOCUS_UM + 3.0

    def __init__(self, layout: Layout, mpp: float, scanner: str, source: str) -> None:
        super().__init__(layout, mpp, _scanner(layout, SCANNERS[scanner], SOURCES[source]))
        self._bad = layout.recipe.scheme.by_name("others").label

    @cached_property
    def defects(self) -> list[Defect]:
        """All defects."""
        layout = self.layout
        count = round(_DEFECTS_PER_MM2 * layout.height * layout.width / 1e6)
        low, high = _DEFECT_RADIUS
        found = []
        draws = hashed(layout.seed, 0xDEFEC7, np.arange(count)[:, None], np.arange(4)[None]).tolist()
        for number, (down, across, large, turned) in enumerate(draws):
            y, x = ((0.1 + 0.8 * at) * side for at, side in ((down, layout.height), (across, layout.width)))
            radius = low + (high - low) * large
            found.append(Defect(DEFECTS[number % len(DEFECTS)], y, x, radius, turned * np.pi))
        return found

    def labels(self, top: int, left: int, height: int, width: int, mpp: float | None = None) -> np.ndarray:
        labels = super().labels(top, left, height, width, mpp)
        y, x = self._coordinates(top, left, height, width, mpp or self.mpp)
        for _, part, distance in self._near(y, x):
            labels[part][distance < 1] = self._bad
        return labels

    def image(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        pixels = super().image(top, left, height, width)
        for defect, part, distance in self._near(*self._coordinates(top, left, height, width, self.mpp)):
            if defect.kind == "bubble":
                # The rim refracts light.
                rim = 0.6 * np.exp(-(((distance - 0.96) * defect.radius / 4) ** 2))
                pixels[part] = pixels[part] * (1 - rim[..., None])
        return pixels

    def _amounts(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        amounts = super()._amounts(y, x)
        for defect, part, distance in self._near(y, x):
            here = (slice(None), *part)
            inside = np.clip((1 - distance) * defect.radius / 6, 0, 1).astype(np.float32)
            if defect.kind == "fold":
                # A second layer of the same tissue, and the edge where it is folded.
                edge = np.exp(-(((distance - 0.9) / 0.12) ** 2)).astype(np.float32)
                amounts[here] *= 1 + 1.1 * inside
                amounts[here] += np.array([0.5, 0.35, 0.0], np.float32)[:, None, None] * edge
            elif defect.kind == "bubble":
                amounts[here] *= 1 - 0.55 * inside
            else:
                sigma = _OUT_OF_FOCUS_UM / self.mpp
                smooth = np.stack([ndimage.gaussian_filter(amount, sigma, truncate=3) for amount in amounts])[here]
                amounts[here] = inside * smooth + (1 - inside) * amounts[here]
        return amounts

    def _near(self, y: np.ndarray, x: np.ndarray) -> Iterator[tuple[Defect, tuple[slice, slice], np.ndarray]]:
        """Yield each defect that may reach into a grid, the part of the grid that it may reach, and the distances from
        its middle there."""
        for defect in self.defects:
            reach = 1.75 * defect.radius
            part = tuple(
                slice(*np.searchsorted(axis, [middle - reach, middle + reach]))
                for axis, middle in ((y, defect.y), (x, defect.x))
            )
            rows, columns = y[part[0]], x[part[1]]
            if len(rows) and len(columns):
                yield defect, (part[0], part[1]), defect.within(rows[:, None], columns[None])


def _scanner(layout: Layout, model: ScannerModel, source: Sequence[float]) -> Scanner:
    """Return the scanner of a slide: the scanner's and laboratory's properties, with small variations per slide."""
    draw = hashed(layout.seed, 0x5CA2, np.arange(4)) - 0.5
    stain = layout.recipe.stain
    nuclear, counterstain, marker = (
        np.array(dye) * strength * (1 + 0.2 * varied)
        for dye, strength, varied in zip(
            (stain.nuclear, stain.counterstain, stain.marker), source, draw[:3], strict=True
        )
    )
    white = np.array(model.white) + 2 * draw[3]
    return Scanner(nuclear, counterstain, white, model.blur_um, model.noise, marker, model.gamma)


def write_multi_stain(
    folder: str | Path,
    annotated: int = 12,
    unlabelled: int = 12,
    validation: int = 6,
    testing: int = 12,
    size: int = 4096,
    mpp: float = 0.5,
    seed: int = 0,
) -> Path:
    """Write slides and their datalist with the columns ``stain``, ``scanner``, ``source``, ``seen`` and ``synthetic``.

    Training slides and the first half of the testing slides have the stains ER, PR, HER2 and Ki67, the scanners A to C
    and the laboratories 1 to 4 in turn. A third each of the other testing slides has a stain (H&E), a scanner and
    laboratory (D, 5), or both, that no training slide has.

    Args:
        folder: folder to write to.
        annotated: number of training slides with up to three completely annotated regions.
        unlabelled: number of training slides without annotation, in the datalist's section ``unlabelled``.
        validation: number of slides annotated like those for training.
        testing: number of slides with full label maps.
        size: pixels per side.
        mpp: µm/px.
        seed: random seed of the first slide; each further slide has the next.

    Returns:
        the datalist's path.
    """
    folder = Path(folder)
    counts = {"training": annotated, "unlabelled": unlabelled, "validation": validation, "testing": testing}
    datalist: dict[str, list[dict[str, object]]] = {section: [] for section in counts}
    planned = [(section, number) for section, count in counts.items() for number in range(count)]
    for section, number in tqdm(planned, desc="painting slides", unit="slide", leave=False):
        made = _kind(number, section == "testing" and 2 * number >= testing)
        layout = Layout(MULTI_STAIN[made["stain"]], seed, size * mpp, size * mpp)
        painter = MultiStainPainter(layout, mpp, made["scanner"], made["source"])
        name = f"slide_{seed:04d}"
        entry: dict[str, object] = {"image": f"{name}.tif", **made, "synthetic": True}
        if section == "testing":
            paint_labels(folder / f"{name}_labels.tif", painter, (size, size))
            entry["label"] = f"{name}_labels.tif"
        elif section != "unlabelled":
            entry.update(_annotated(folder / f"{name}.geojson", painter, size))
        paint_slide(folder / f"{name}.tif", painter, (size, size), SCANNERS[made["scanner"]].quality)
        datalist[section].append(entry)
        seed += 1
    path = folder / "datalist.json"
    write_json(path, {section: entries for section, entries in datalist.items() if entries})
    return path


def _kind(number: int, unseen: bool) -> dict[str, str]:
    """Return stain, scanner and laboratory of the slide of that number."""
    seen = {
        column: [name for name in names if name != UNSEEN[column]]
        for column, names in (("stain", STAINS), ("scanner", SCANNERS), ("source", SOURCES))
    }
    made = {column: names[number % len(names)] for column, names in seen.items()}
    # Twelve slides have every pair of four stains and three scanners once; laboratories vary against both.
    made["source"] = seen["source"][(number + number // 4) % len(seen["source"])]
    if not unseen:
        return {**made, "seen": "seen"}
    which: Mapping[str, Sequence[str]] = {
        "unseen stain": ("stain",),
        "unseen scanner": ("scanner", "source"),
        "unseen both": ("stain", "scanner", "source"),
    }
    name = list(which)[number % len(which)]
    return {**made, **{column: UNSEEN[column] for column in which[name]}, "seen": name}


def _annotated(path: Path, painter: MultiStainPainter, size: int) -> dict[str, object]:
    """Annotate some regions completely, and return the fields of the datalist entry."""
    scheme, scale = MULTI_STAIN_CLASSES, _OUTLINED / painter.mpp
    side = int(size / scale)
    labels = painter.labels(0, 0, side, side, _OUTLINED)
    box = min(side, round(_REGION_UM / _OUTLINED))
    corners = _varied_boxes(labels, box, painter.layout.seed)
    inside = np.zeros_like(labels)
    for top, left in corners:
        inside[top : top + box, left : left + box] = labels[top : top + box, left : left + box]
    inside[inside == scheme.by_name("normal").label] = UNLABELLED
    regions = [
        AnnotatedRegion(label, shapely.transform(shapely.simplify(polygon, 0.5), lambda points: points * scale))
        for label, polygons in label_polygons(inside).items()
        for polygon in polygons
    ]
    write_geojson(path, regions, scheme)
    boxes = [[round(place * scale) for place in (top, left, box, box)] for top, left in corners]
    unannotated = {"class": "normal", "within": "region"}
    return {"label": path.name, "regions": boxes, "unannotated": unannotated}


def _varied_boxes(labels: np.ndarray, box: int, seed: int) -> list[tuple[int, int]]:
    """Return boxes that do not overlap: those with most tumour, with most others, and with most of both."""
    wanted = (
        lambda shares: shares[1],
        lambda shares: shares[2],
        lambda shares: min(shares[1], shares[2]) + 0.1 * (shares[1] + shares[2]),
    )
    steps = np.unique(np.linspace(0, len(labels) - box, 9).round().astype(int)).tolist()
    places = [(top, left) for top in steps for left in steps]
    shares = {
        (top, left): np.bincount(labels[top : top + box, left : left + box].ravel(), minlength=4)[1:4] / box**2
        for top, left in places
    }
    chosen: list[tuple[int, int]] = []
    for score in wanted[:_REGIONS]:
        free = [p for p in places if all(max(abs(p[0] - q[0]), abs(p[1] - q[1])) >= box for q in chosen)]
        if free:
            chosen.append(max(free, key=lambda place: score(shares[place])))
    return chosen
