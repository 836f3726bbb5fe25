"""The whole-slide engine against patch-by-patch reading."""

from __future__ import annotations

import json
import shutil
from collections import Counter

import numpy as np
import pytest
import tifffile
import torch
import zarr

from common.annotations import read_annotations
from common.evaluation.slide import score_slide
from common.inference import InferenceOptions, Segmenter, WholeSlideInferer
from common.inference.reading import BlockReader
from common.maps import TileGrid
from common.networks import DMMNM3
from common.phantom import write_phantom
from common.slides import FieldOfView, PatchReader, open_slide, tissue_mask
from common.slides.backends import TiffBackend
from common.slides.backends.cache import TileCache
from tests.conftest import ramp, write_pyramid

VIEWS = [FieldOfView(0.5, 64), FieldOfView(1.0, 64), FieldOfView(2.0, 64)]
TARGET = VIEWS[0]
CPU = torch.device("cpu")


class Blocky(torch.nn.Module):
    """Predicts a class per 16 x 16 pixels by their brightness: outlines as a trained network draws them, not pixel
    noise."""

    def __init__(self) -> None:
        super().__init__()
        self.edges = torch.nn.Parameter(torch.tensor([0.45, 0.55, 0.65, 0.75, 0.9]))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        grey = torch.nn.functional.avg_pool2d(image[:, :3].mean(dim=1, keepdim=True), 16)
        channel = torch.bucketize(grey[:, 0].contiguous(), self.edges) + 1
        logits = torch.nn.functional.one_hot(channel, 7).movedim(-1, 1).float()
        return torch.nn.functional.interpolate(logits, scale_factor=16)


@pytest.fixture(scope="module")
def network() -> DMMNM3:
    torch.manual_seed(0)
    return DMMNM3(channels=(4, 6, 8, 10, 12)).eval()


def inferer(scheme, output_dir, **arguments) -> WholeSlideInferer:
    options = InferenceOptions(batch_size=5, block=3, **arguments.pop("options", {}))
    return WholeSlideInferer(VIEWS, TARGET, scheme, output_dir, options=options, **arguments)


@pytest.mark.parametrize("views", [VIEWS, [FieldOfView(0.5, 100)], [FieldOfView(0.5, 64), FieldOfView(1.7, 64)]])
@pytest.mark.parametrize("snap", [0.03, 0.0])
@pytest.mark.parametrize("mpp", [0.4979, 0.37])
@pytest.mark.parametrize("stride", [64, 32])
def test_blocks_hold_the_pixels_of_patches_read_one_by_one(tmp_path, views, snap, mpp, stride):
    slide = open_slide(write_pyramid(tmp_path / "s.tif", [ramp(48, 48).repeat(9, 0).repeat(9, 1)], (mpp, mpp)))
    reader = PatchReader(views, fill="black", snap=snap)
    grid = TileGrid(slide.shape, slide.level0_pixels(reader.effective_mpp(slide, 0.5)), 64, 3, stride)
    blocks = BlockReader(reader, slide, grid, 0.5)
    for block in grid.blocks():
        wanted = np.add.outer(np.arange(block.rows), np.arange(block.columns)) % 3 > 0
        found = set()
        for window in blocks.read(block, wanted):
            for row, column in np.argwhere(window.mask).tolist():
                at = [(row * step, column * step) for step in blocks.steps or [0] * len(views)]
                size = views[0].size
                cut = [view[:, y : y + size, x : x + size] for view, (y, x) in zip(window.views, at, strict=True)]
                place = (window.row + row, window.column + column)
                single = reader.read(slide, grid.center(block.row + place[0], block.column + place[1]))
                assert np.array_equal(np.concatenate(cut), single)
                found.add(place)
        assert found == {tuple(place) for place in np.argwhere(wanted).tolist()}


@pytest.mark.parametrize(("levels", "cached"), [((1, 2, 4, 8), False), ((1, 4), True)])
def test_a_block_at_four_mpp_decodes_each_tile_once_per_level(tmp_path, monkeypatch, levels, cached):
    """If the slide lacks a level for each view, two views share one, and tiles are kept between them."""
    pixels = [ramp(48, 48).repeat(1024 // (48 * step) + 1, 0).repeat(1024 // (48 * step) + 1, 1) for step in levels]
    images = [image[: 1024 // step, : 1024 // step] for image, step in zip(pixels, levels, strict=True)]
    slide = open_slide(write_pyramid(tmp_path / "s.tif", images, (0.5, 0.5)))
    decoded: Counter = Counter()
    decode = TiffBackend._decode

    def counted(self, level, index):
        decoded[level, index] += 1
        return decode(self, level, index)

    monkeypatch.setattr(TiffBackend, "_decode", counted)
    monkeypatch.setattr("common.slides.backends.tiff.TILES", TileCache(1 << 26 if cached else 0))
    views = [FieldOfView(0.5 * 2**j, 64) for j in range(4)]
    grid = TileGrid(slide.shape, slide.level0_pixels(0.5), 64, 4)
    block = next(block for block in grid.blocks() if (block.row, block.column) == (4, 8))
    BlockReader(PatchReader(views), slide, grid, 0.5).read(block, np.ones((4, 4), dtype=bool))
    assert set(decoded.values()) == {1}
    if not cached:
        # Pixels a side of each window: one patch, and three steps to the next targets. Tiles are of 16.
        sides = [64 + 3 * 64 // 2**j for j in range(4)]
        middle = [(6 * 64 / 2**j, 10 * 64 / 2**j) for j in range(4)]
        for level, (side, centre) in enumerate(zip(sides, middle, strict=True)):
            tiles = [(c + side / 2 - 1e-6) // 16 - (c - side / 2) // 16 + 1 for c in centre]
            assert sum(at == level for at, _ in decoded) == tiles[0] * tiles[1]


def test_the_label_map_equals_the_networks_labels_target_by_target(phantom, scheme, network, tmp_path):
    slide = open_slide(phantom.slide)
    reader = PatchReader(VIEWS, fill="black")
    segmenter = Segmenter(
        network, [CPU], reader, TARGET, scheme, InferenceOptions(batch_size=7, block=5), lambda x: x / 255
    )
    found = segmenter.segment(slide, tmp_path, {})
    store, grid = found.maps["labels"], found.grid
    for row, column in ((0, 0), (13, 29), (47, 47), (20, 4)):
        patch = torch.from_numpy(reader.read(slide, grid.center(row, column)).astype(np.float32) / 255)
        with torch.no_grad():
            logits = network(patch[None])
        part = store.read(row * 64, column * 64, 64, 64)
        assert (part == scheme.labels_from_logits(logits)[0].numpy()).mean() > 0.9999
    assert store.shape == slide.shape
    assert (np.concatenate(list(store.bands(512))) > 0).all()


def test_glass_within_targets_is_left_out_on_request(phantom, scheme, tmp_path):
    maps, outputs = {}, ("prediction.tif", "probabilities.zarr", "summary.json")
    for tissue in (False, True, "pixels"):
        folder = tmp_path / str(tissue)
        inferer(scheme, folder, outputs=outputs, tissue=tissue)({"image": str(phantom.slide)}, Blocky())
        maps[tissue] = tifffile.imread(folder / "phantom" / "prediction.tif")
    slide = open_slide(phantom.slide)
    mask = tissue_mask(slide)
    # 8 µm to a pixel of the mask, 0.5 to one of the map.
    glass = ~mask.mask.repeat(16, 0).repeat(16, 1)[:3072, :3072]
    assert np.array_equal(maps["pixels"] == 0, glass)
    assert np.array_equal(maps["pixels"][~glass], maps[False][~glass])
    assert 0 < (maps[True] == 0).sum() < glass.sum()
    probabilities = zarr.open_group(str(tmp_path / "pixels" / "phantom" / "probabilities.zarr"), mode="r")["0"]
    assert not np.asarray(probabilities)[:, glass].any()
    # Of regions of interest, only these, and of these only tissue.
    regions = [[10, 20, 300, 200], [400, 100, 90, 340]]
    inside = np.zeros(maps[False].shape, dtype=bool)
    inside[10:310, 20:220] = inside[400:490, 100:440] = True
    for tissue, expected in ((False, maps[False]), ("pixels", maps["pixels"])):
        folder = tmp_path / f"regions_{tissue}"
        run = inferer(scheme, folder, outputs=outputs, tissue=tissue, only_regions=True)
        run({"image": str(phantom.slide), "regions": regions}, Blocky())
        found = tifffile.imread(folder / "phantom" / "prediction.tif")
        assert (found == np.where(inside, expected, 0)).all()
        assert found.any()
    with pytest.raises(ValueError, match='tissue must be true, false or "pixels"'):
        inferer(scheme, tmp_path, tissue="otsu")


def test_outputs_of_a_slide(phantom, scheme, tmp_path):
    outputs = ("prediction.tif", "prediction.geojson", "overlay.png", "summary.json", "prediction.nii.gz")
    exact = {"min_area": 0, "simplify": 0, "skip": []}
    result = inferer(scheme, tmp_path, outputs=outputs, polygons=exact)({"image": str(phantom.slide)}, Blocky())
    folder = tmp_path / "phantom"
    assert sorted(path.name for path in folder.iterdir()) == sorted(outputs)
    summary = json.loads((folder / "summary.json").read_text())
    labels = tifffile.imread(folder / "prediction.tif")
    assert labels.shape == (3072, 3072)
    for tissue in scheme.classes:
        area = (labels == tissue.label).sum() * 0.5**2 / 1e6
        assert summary["classes"][tissue.name]["area_mm2"] == pytest.approx(area, abs=1e-6)
    assert sum(c["share"] for c in summary["classes"].values()) == pytest.approx(1, abs=1e-4)
    assert summary["fields_of_view"][2] == {"mpp": 2.0, "size": 64, "anchor": "center"}
    assert "torch" in summary["libraries"]
    slide = open_slide(phantom.slide)
    outlined = read_annotations(folder / "prediction.geojson", scheme).label_map(slide, (1000, 1500), 0.5, 700)
    assert np.array_equal(outlined, labels[650:1350, 1150:1850])
    assert result["output"] == str(folder)
    assert summary["polygons"]["written"] == len(json.loads((folder / "prediction.geojson").read_text())["features"])


def test_polygons_for_people_leave_the_label_map_and_its_areas_exact(scheme, tmp_path):
    phantom = write_phantom(tmp_path, "phantom", 16, (1024, 1024))
    outputs = ("prediction.tif", "prediction.geojson", "summary.json")
    summaries = {}
    for name, polygons in (("exact", {"min_area": 0, "simplify": 0, "skip": []}), ("people", {"min_area": 400})):
        run = inferer(scheme, tmp_path / name, outputs=outputs, polygons=polygons)
        summaries[name] = run({"image": str(phantom.slide)}, Blocky())
    exact, people = (tmp_path / name / "phantom" for name in summaries)
    assert (exact / "prediction.tif").read_bytes() == (people / "prediction.tif").read_bytes()
    assert summaries["exact"]["classes"] == summaries["people"]["classes"]
    said = summaries["people"]["polygons"]
    features = json.loads((people / "prediction.geojson").read_text())["features"]
    assert said["written"] == len(features) < summaries["exact"]["polygons"]["written"] / 2
    assert "background" not in {one["properties"]["classification"]["name"] for one in features}
    # A region of Blocky's is one of its squares of 8 x 8 µm, or several.
    for figures in said["merged"].values():
        assert figures["area_mm2"] >= figures["regions"] * 64e-6 - 1e-6
    assert not list(people.glob("**/*sieved*"))


def test_options_of_polygons_are_refused_before_anything_is_segmented(scheme, tmp_path):
    with pytest.raises(ValueError, match=r"polygons: no class glass to skip; the scheme has carcinoma"):
        inferer(scheme, tmp_path, polygons={"skip": ["glass"]})
    with pytest.raises(ValueError, match=r"polygons: no option min_size"):
        inferer(scheme, tmp_path, polygons={"min_size": 3})


def test_tensors_go_straight_through(scheme, network, tmp_path):
    image = torch.rand(2, 9, 64, 64)
    with torch.no_grad():
        assert torch.allclose(inferer(scheme, tmp_path)(image, network), network(image), atol=1e-6)


def test_targets_without_tissue_are_left_out_and_count_as_the_skipped_class(phantom, scheme, network, tmp_path):
    inferer(scheme, tmp_path, tissue=True, outputs=["prediction.tif", "summary.json"])(
        {"image": str(phantom.slide)}, network
    )
    labels = tifffile.imread(tmp_path / "phantom" / "prediction.tif")
    assert (labels[:64, :64] == 0).all()
    slide = open_slide(phantom.slide)
    mask = tissue_mask(slide)
    share = json.loads((tmp_path / "phantom" / "summary.json").read_text())["not_predicted_share"]
    assert 0 < share < 1 - mask.share + 0.02
    truth = read_annotations(phantom.labels, scheme)
    counted = score_slide(slide, tmp_path / "phantom" / "prediction.tif", truth, scheme)
    apart = score_slide(slide, tmp_path / "phantom" / "prediction.tif", truth, scheme, count_skipped=False)
    assert counted[:, -1].sum() == 0
    assert apart[:, -1].sum() == (labels == 0).sum()
    assert counted.sum() == apart.sum() == 3072 * 3072


def test_nine_of_ten_slides_are_finished_and_the_tenth_is_reported(scheme, tmp_path):
    sound = write_pyramid(tmp_path / "s0.tif", [ramp(48, 48).repeat(5, 0).repeat(5, 1)], (0.5, 0.5))
    for number in range(1, 10):
        shutil.copy(sound, tmp_path / f"s{number}.tif")
    with tifffile.TiffFile(tmp_path / "s4.tif") as file:
        offset = file.pages[0].dataoffsets[30]
    with (tmp_path / "s4.tif").open("r+b") as file:
        file.seek(offset)
        file.write(bytes(40))
    run = inferer(scheme, tmp_path / "out")
    results = [run({"image": str(tmp_path / f"s{number}.tif")}, Blocky()) for number in range(10)]
    assert [number for number, result in enumerate(results) if "error" in result] == [4]
    assert sorted(path.parent.name for path in (tmp_path / "out").glob("*/prediction.tif")) == [
        f"s{number}" for number in range(10) if number != 4
    ]
    with pytest.raises(SystemExit, match=r"1 of 10 slides could not be segmented:\n.*s4\.tif"):
        run.finish()


def test_several_images_of_one_file_that_fail_are_counted_each(scheme, network, tmp_path):
    path = write_pyramid(tmp_path / "s.tif", [ramp(48, 48)], (0.5, 0.5))
    run = inferer(scheme, tmp_path / "out")
    for series in (7, 8):
        assert "error" in run({"image": str(path), "series": series}, network)
    with pytest.raises(SystemExit, match=r"2 of 2 slides could not be segmented:\n.* 7.*\n.* 8"):
        run.finish()


def test_a_run_without_failures_ends_quietly(scheme, network, tmp_path):
    path = write_pyramid(tmp_path / "s.tif", [ramp(48, 48).repeat(3, 0).repeat(3, 1)], (0.5, 0.5))
    run = inferer(scheme, tmp_path / "out", outputs=["summary.json"])
    run({"image": str(path)}, network)
    run.finish()


def test_unknown_outputs_are_refused(scheme, tmp_path):
    with pytest.raises(ValueError, match=r"no outputs prediction\.jpg; there are prediction\.tif"):
        inferer(scheme, tmp_path, outputs=["prediction.jpg"])


def test_the_grid_covers_the_slide():
    grid = TileGrid((1000, 1301), (2.0, 2.0), 64, 4)
    assert grid.shape == (500, 651)
    assert grid.grid == (8, 11)
    assert sum(block.height * block.width for block in grid.blocks()) == 500 * 651
    covered = {
        (b.row + row, b.column + column) for b in grid.blocks() for row in range(b.rows) for column in range(b.columns)
    }
    assert covered == {(row, column) for row in range(8) for column in range(11)}
    assert grid.center(0, 0) == (64, 64)
