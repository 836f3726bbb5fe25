"""Synthetic slides: what they promise."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score

from common.annotations import read_annotations
from common.classes import ClassScheme
from common.phantom import BREAST, LYMPH_NODE, Recipe, Stain, write_phantom, write_phantoms
from common.phantom.annotate import STYLES, _choose
from common.phantom.layout import Layout, _gap
from common.phantom.paint import Painter
from common.slides import open_slide


def test_annotations_are_partial_true_and_the_same_in_both_formats(phantom, scheme):
    slide = open_slide(phantom.slide)
    truth = read_annotations(phantom.labels, scheme)
    maps = [read_annotations(path, scheme) for path in (phantom.geojson, phantom.asap_xml)]
    whole = {"center": (1536, 1536), "mpp": 0.5, "size": 3072}
    labels, xml = (m.label_map(slide, **whole) for m in maps)
    true = truth.label_map(slide, **whole)
    assert (true > 0).all()
    assert np.array_equal(labels, xml)
    assert 0.02 < (labels > 0).mean() < 0.09
    assert (labels == true)[labels > 0].mean() > 0.9995
    assert set(np.unique(labels)) - {0} == set(np.unique(true))


def test_components_are_annotated_whole_but_for_a_thin_seam(phantom, scheme):
    slide = open_slide(phantom.slide)
    window = {"center": (1536, 1536), "mpp": 2.0, "size": 768}
    labels = read_annotations(phantom.geojson, scheme).label_map(slide, **window)
    true = read_annotations(phantom.labels, scheme).label_map(slide, **window)
    for label in (1, 2, 5):
        components, count = ndimage.label(true == label)
        for number in range(1, count + 1):
            component = components == number
            covered = (labels[component] == label).mean()
            assert covered == 0 or covered > 0.6
            if covered:
                missed = component & (labels != label)
                assert not (missed & ndimage.binary_erosion(component, iterations=9)).any()


def test_spaced_and_cropped_annotations_label_as_much_but_otherwise():
    """Label maps at the annotations' own 4 µm/px: labelled share, width of seams, and cropped components."""
    painter = Painter(Layout(BREAST, 12, 3072, 3072), 0.5)
    truth = painter.labels(0, 0, 768, 768, 4.0)
    found = {style: _choose(painter, truth, 0, 0, style) for style in STYLES}
    shares = {style: (chosen > 0).mean() for style, chosen in found.items()}
    for style, chosen in found.items():
        assert (chosen == truth)[chosen > 0].all(), style
        assert shares[style] == pytest.approx(shares["whole"], rel=0.3), shares
    border = ndimage.maximum_filter(truth, 3) != ndimage.minimum_filter(truth, 3)
    distance = ndimage.distance_transform_edt(~border) * 4.0
    assert distance[found["whole"] > 0].min() < 5
    assert distance[found["spaced"] > 0].min() > 11
    components, count = ndimage.label(truth == 1)
    inner = ndimage.binary_erosion(truth == 1, np.ones((3, 3)), iterations=4)
    for style, least, most in (("whole", 0, 0), ("spaced", 0, 0), ("cropped", 4, count)):
        annotated = [(found[style][(components == n) & inner] == 1) for n in range(1, count + 1)]
        assert least <= sum(0.05 < part.mean() < 0.95 for part in annotated if part.size) <= most, style


def test_a_slide_of_three_millimetres_has_all_six_classes(scheme):
    labels = Painter(Layout(BREAST, 1001, 3072, 3072), 0.5).labels(0, 0, 768, 768, mpp=4.0)
    assert set(np.unique(labels)) == {tissue.label for tissue in scheme.classes}


def test_the_same_seed_gives_the_same_files(tmp_path):
    first = write_phantom(tmp_path / "a", "p", 5, (1100, 1300))
    second = write_phantom(tmp_path / "b", "p", 5, (1100, 1300))
    other = write_phantom(tmp_path / "c", "p", 6, (1100, 1300))
    for one, two in zip(dataclasses.astuple(first)[:4], dataclasses.astuple(second)[:4], strict=True):
        assert one.read_bytes() == two.read_bytes()
    assert first.slide.read_bytes() != other.slide.read_bytes()


def test_tiles_do_not_depend_on_what_is_painted_around_them():
    painter = Painter(Layout(BREAST, 3, 2000, 2000), 0.5)
    whole = painter.labels(1000, 1200, 600, 700)
    assert np.array_equal(painter.labels(1300, 1400, 200, 300), whole[300:500, 200:500])
    density = -np.log(painter.image(1000, 1000, 256, 256).astype(float).mean(axis=2) / 255)
    assert density.std() > 0.01


def test_a_datalist_comes_with_a_set(tmp_path):
    path = write_phantoms(tmp_path, 1, 1, 1, size=1024, seed=1)
    content = json.loads(path.read_text())
    columns = {"stain": "H&E", "synthetic": True}
    assert content["training"] == [{"image": "phantom_0001.tif", "label": "phantom_0001.geojson", **columns}]
    assert content["testing"] == [{"image": "phantom_0003.tif", "label": "phantom_0003_labels.tif", **columns}]


@pytest.mark.all
def test_nests_keep_their_distance_and_crowd_or_stand_alone():
    layout = Layout(BREAST, 23, 4096, 4096)
    names = [population.class_name for population in BREAST.populations]
    by_class = {name: [s for s in layout.structures if names[s.population] == name] for name in names}
    epithelium = by_class["carcinoma"] + by_class["benign epithelial"]
    assert len(by_class["carcinoma"]) > 10
    assert len(by_class["benign epithelial"]) > 5
    nearest = {name: [] for name in by_class}
    for name in ("carcinoma", "benign epithelial"):
        for structure in by_class[name]:
            gaps = [_gap(structure, other) for other in epithelium if other is not structure]
            assert min(gaps) >= 109
            nearest[name].append(min(gaps))
    assert np.median(nearest["carcinoma"]) < 140
    assert min(nearest["benign epithelial"]) >= 259


def test_fibrous_tissue_keeps_clear_of_metastases_and_inclusions_alike():
    layout = Layout(LYMPH_NODE, 500, 3072, 3072)
    y, x = np.meshgrid(np.arange(0, 3072, 8.0), np.arange(0, 3072, 8.0), indexing="ij")
    fibrous = layout.ground(y, x) == 2
    assert 0.1 < fibrous.mean() < 0.5
    places = np.stack([y[fibrous], x[fibrous]], axis=1)
    gaps = {number: [] for number in (1, 2)}
    for structure in layout.structures:
        if structure.population in gaps:
            apart = np.sqrt(((places[:, None] - structure.outline[None]) ** 2).sum(axis=2)).min()
            gaps[structure.population].append(apart)
    assert min(gaps[1] + gaps[2]) >= 105
    assert np.median(gaps[1]) < 140, "metastases have it about them"
    assert np.median(gaps[2]) > 160


# ---- what differs by its surroundings looks alike within 192 µm

# Of both recipes: the population that is cancer, and the one that looks like it.
LOOK_ALIKES = (1, 2)


def windows(
    recipe: Recipe, size_um: float, mpp: float, seeds: range, per_class: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of windows centred on cancer (0) and its look-alike (1), their class, and their slide."""
    rng = np.random.default_rng(0)
    features, classes, slides = [], [], []
    for seed in seeds:
        layout = Layout(recipe, seed, 3600, 3600)
        painter = Painter(layout, mpp)
        pixels = int(size_um / mpp)
        coarse = painter._kinds(*painter._coordinates(0, 0, 900, 900, 4.0)) - len(recipe.grounds)
        for number, population in enumerate(LOOK_ALIKES):
            places = np.argwhere(coarse == population)
            for y, x in places[rng.permutation(len(places))[:per_class]]:
                corner = [int(c * 4.0 / mpp - pixels / 2) for c in (y, x)]
                features.append(describe(painter.image(*corner, pixels, pixels)))
                classes.append(number)
                slides.append(seed)
    return np.array(features), np.array(classes), np.array(slides)


def describe(image: np.ndarray) -> np.ndarray:
    """Colour statistics, local contrast at several scales, and darkness in the middle, in rings and in the corners."""
    grey = image.mean(axis=2).astype(float)
    side = len(grey)
    y, x = np.mgrid[:side, :side] - side / 2 + 0.5
    distance = np.maximum(np.abs(y), np.abs(x)) / (side / 2)
    rings = [grey[(distance >= low) & (distance < low + 0.2)].mean() for low in (0, 0.2, 0.4, 0.6, 0.8)]
    scales = []
    for step in (2, 4, 8, 16):
        small = (
            grey[: side // step * step, : side // step * step]
            .reshape(side // step, step, side // step, step)
            .mean(axis=(1, 3))
        )
        scales += [np.abs(np.diff(small, axis=0)).mean(), np.abs(np.diff(small, axis=1)).mean(), small.std()]
    dark = [(grey < threshold).mean() for threshold in (90, 120, 150, 180)]
    return np.array([*image.reshape(-1, 3).mean(axis=0), *image.reshape(-1, 3).std(axis=0), *rings, *scales, *dark])


def auc(recipe: Recipe, size_um: float, mpp: float, num_slides: int) -> float:
    """Return how well a random forest tells the classes apart on unseen slides."""
    features, classes, slides = windows(recipe, size_um, mpp, range(300, 300 + num_slides), 14)
    held_out = slides >= 300 + num_slides // 2
    forest = RandomForestClassifier(300, min_samples_leaf=2, random_state=0).fit(
        features[~held_out], classes[~held_out]
    )
    forward = roc_auc_score(classes[held_out], forest.predict_proba(features[held_out])[:, 1])
    forest.fit(features[held_out], classes[held_out])
    backward = roc_auc_score(classes[~held_out], forest.predict_proba(features[~held_out])[:, 1])
    return (forward + backward) / 2


# Minutes, for what changes only with the recipes. Lymphoid tissue is full of nuclei and takes longer to paint.
@pytest.mark.all
@pytest.mark.parametrize(("recipe", "far_um", "num_slides"), [(BREAST, 700, 6), (LYMPH_NODE, 500, 4)])
def test_cancer_and_what_looks_like_it_look_alike_within_192_um_but_not_beyond(recipe, far_um, num_slides):
    near, far = auc(recipe, 192, 1.0, num_slides), auc(recipe, far_um, 4.0, num_slides)
    assert near < 0.65, near
    assert far > 0.85, far
    assert far - near > 0.25


@pytest.mark.all
def test_another_tissue_is_another_recipe(tmp_path):
    """Two classes, one output channel, another dye: data only."""
    scheme = ClassScheme(
        [
            {"name": "normal", "color": (60, 170, 80), "label": 1, "channel": None},
            {"name": "tumour", "color": (220, 40, 40), "label": 2, "channel": 0},
        ],
        activation="sigmoid",
        skipped="normal",
    )
    tumour = dataclasses.replace(BREAST.populations[1], class_name="tumour")
    recipe = dataclasses.replace(
        BREAST,
        scheme=scheme,
        territories=("tumour", "normal"),
        glass="normal",
        grounds=(dataclasses.replace(BREAST.grounds[0], class_name="normal"),),
        populations=(tumour,),
        annotated={"tumour": 0.02, "normal": 0.02},
        stain=Stain(counterstain=(0.3, 0.5, 0.8)),
    )
    files = write_phantom(tmp_path, "p", 4, (2500, 4500), recipe=recipe)
    slide = open_slide(files.slide)
    labels = read_annotations(files.labels, scheme).label_map(slide, (1250, 2250), 2.0, (600, 1100))
    assert set(np.unique(labels)) == {1, 2}
    pixels = slide.read((1250, 2250), 2.0, (600, 1100)).astype(int)
    tissue = pixels[(labels == 1) & (pixels.sum(axis=2) < 650)].mean(axis=0)
    assert tissue[2] < tissue[0]


def test_an_unknown_recipe_is_named(tmp_path):
    with pytest.raises(ValueError, match="no phantom recipe 'liver'; there are breast"):
        write_phantoms(tmp_path, recipe="liver")
