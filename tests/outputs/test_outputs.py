"""The files a segmented slide yields."""

from __future__ import annotations

import json

import numpy as np
import openslide
import pytest
import shapely
import tifffile
from scipy import ndimage

from common.annotations import read_annotations
from common.maps import MapStore, TileGrid
from common.outputs.nifti import write_nifti
from common.outputs.overlay import blend, with_legend
from common.outputs.polygons import label_polygons, slide_polygons
from common.outputs.pyramid import write_image_pyramid, write_label_pyramid
from common.slides import open_slide


@pytest.fixture
def labels() -> np.ndarray:
    """Blobs of all classes with holes and islands, 0 among them."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(700, 900)), 9)
    return np.digitize(noise, np.quantile(noise, [0.1, 0.25, 0.4, 0.6, 0.75, 0.9])).astype(np.uint8)


def bands(image: np.ndarray, height: int = 512):
    return (image[top : top + height] for top in range(0, len(image), height))


def test_polygons_cover_their_pixels_exactly(labels):
    for label, polygons in label_polygons(labels).items():
        assert shapely.is_valid(polygons).all()
        assert sum(p.area for p in polygons) == (labels == label).sum()
        _, count = ndimage.label(labels == label)
        assert len(polygons) == count


def test_polygons_keep_holes_and_do_not_join_corners():
    ring = np.zeros((6, 6), dtype=np.uint8)
    ring[1:5, 1:5] = 1
    ring[2:4, 2:4] = 2
    found = label_polygons(ring)
    assert found[1][0].equals(shapely.box(1, 1, 5, 5) - shapely.box(2, 2, 4, 4))
    assert found[2][0].equals(shapely.box(2, 2, 4, 4))
    checkers = label_polygons(np.array([[1, 2], [2, 1]], dtype=np.uint8))
    assert [len(checkers[label]) for label in (1, 2)] == [2, 2]
    assert label_polygons(np.zeros((4, 4), dtype=np.uint8)) == {}


@pytest.mark.parametrize("glass", [pytest.param(0.0, marks=pytest.mark.all), 0.5])
@pytest.mark.parametrize("block", [pytest.param(64, marks=pytest.mark.all), 200, 256])
def test_block_seams_do_not_show_in_polygons(labels, tmp_path, block, glass):
    store = MapStore(tmp_path / "c.zarr", labels.shape, block)
    some = np.random.default_rng(block).random((-(-700 // block), -(-900 // block))) >= glass
    labels = labels * some.repeat(block, 0).repeat(block, 1)[:700, :900]
    for row, column in np.argwhere(some) * block:
        store.write(row, column, labels[row : row + block, column : column + block])
    grid = TileGrid((700, 900), (1.0, 1.0), 64, 4)
    whole = label_polygons(labels)
    by_blocks: dict[int, list] = {}
    for region in slide_polygons(store, grid):
        by_blocks.setdefault(region.label, []).append(region.outline)
    for label, polygons in whole.items():
        assert len(by_blocks[label]) == len(polygons)
        assert shapely.is_valid(by_blocks[label]).all()
        assert shapely.union_all(by_blocks[label]).symmetric_difference(shapely.union_all(polygons)).area == 0


def test_polygons_are_in_level_0_pixels_and_end_at_the_border(tmp_path):
    store = MapStore(tmp_path / "c.zarr", (3, 4), 8)
    store.write(0, 0, np.full((3, 4), 2, dtype=np.uint8))
    region = next(slide_polygons(store, TileGrid((10, 15), (4.0, 4.0), 8, 1)))
    assert region.outline.equals(shapely.box(0, 0, 15, 10))


def test_the_label_pyramid_opens_everywhere(labels, scheme, tmp_path):
    big = np.tile(labels, (2, 2))
    write_label_pyramid(tmp_path / "p.tif", bands(big), big.shape, 0.5, scheme)
    with tifffile.TiffFile(tmp_path / "p.tif") as file:
        assert np.array_equal(file.pages[0].asarray(), big)
        assert np.array_equal(file.pages[1].asarray(), big[::2, ::2])
        assert json.loads(file.pages[0].description)["classes"]["1"] == "carcinoma"
        assert not file.pages[0].subifds
    slide = openslide.OpenSlide(tmp_path / "p.tif")
    assert slide.level_dimensions == ((1800, 1400), (900, 700))
    for level in (0, 1):
        pixels = np.asarray(slide.read_region((0, 0), level, (200, 100)))[..., :3]
        assert np.array_equal(pixels, scheme.palette()[big[:: 2**level, :: 2**level][:100, :200]])
    ours = open_slide(tmp_path / "p.tif")
    assert ours.mpp == pytest.approx(0.5, rel=1e-6)
    assert np.array_equal(ours.read((700, 900), 0.5, (1400, 1800)), scheme.palette()[big])


def test_nothing_half_written_stays(labels, scheme, tmp_path):
    def broken():
        yield labels[:512]
        raise RuntimeError("cut off")

    with pytest.raises(RuntimeError, match="cut off"):
        write_label_pyramid(tmp_path / "p.tif", broken(), (1400, 900), 0.5, scheme)
    assert list(tmp_path.iterdir()) == []


def test_the_image_pyramid_keeps_colours_at_every_level(tmp_path):
    image = np.zeros((1500, 1300, 3), dtype=np.uint8)
    image[:] = (205, 120, 180)
    image[:, 650:] = (90, 60, 150)
    write_image_pyramid(tmp_path / "s.tif", bands(image), image.shape[:2], 0.5)
    for backend in ("tiff", "openslide"):
        slide = open_slide(tmp_path / "s.tif", backend)
        assert [level.shape for level in slide.levels] == [(1500, 1300), (750, 650)]
        for mpp in (0.5, 1.0):
            pixels = slide.read((750, 300), mpp, 100).astype(int)
            assert np.abs(pixels - (205, 120, 180)).max() <= 4


def test_nifti_has_its_affine_in_mm(labels, tmp_path):
    import nibabel

    store = MapStore(tmp_path / "c.zarr", labels.shape, 256)
    store.write(0, 0, labels)
    write_nifti(tmp_path / "p.nii.gz", store, 0.5)
    image = nibabel.load(tmp_path / "p.nii.gz")
    assert np.array_equal(np.asarray(image.dataobj)[..., 0].T, labels)
    assert image.affine @ [0, 0, 0, 1] == pytest.approx([-0.00025, -0.00025, 0, 1])
    assert image.affine @ [900, 700, 0, 1] == pytest.approx([-0.45025, -0.35025, 0, 1])


def test_the_overlay_shows_tissue_through_its_classes(scheme):
    tissue = np.full((40, 300, 3), 200, dtype=np.uint8)
    labels = np.zeros((40, 300), dtype=np.uint8)
    labels[:20] = 1
    mixed = blend(tissue, labels, scheme, 0.5)
    assert (mixed[20:] == 200).all()
    assert (mixed[:20] == (210, 120, 120)).all()
    picture = with_legend(mixed, scheme)
    assert picture.size[0] == 300
    assert picture.size[1] > 60
    assert (220, 40, 40) in {color for _, color in picture.getcolors(100_000)}


def test_the_geojson_of_a_prediction_is_the_prediction(labels, scheme, tmp_path):
    from common.annotations import write_geojson

    store = MapStore(tmp_path / "c.zarr", labels.shape, 256)
    store.write(0, 0, labels)
    write_image_pyramid(tmp_path / "s.tif", bands(np.full((700, 900, 3), 99, np.uint8)), (700, 900), 0.5)
    write_geojson(tmp_path / "p.geojson", slide_polygons(store, TileGrid((700, 900), (1.0, 1.0), 64, 4)), scheme)
    found = read_annotations(tmp_path / "p.geojson", scheme).label_map(
        open_slide(tmp_path / "s.tif"), (350, 450), 0.5, (700, 900)
    )
    assert np.array_equal(found, labels)
