"""A run over slides without a network: what any way of making maps gets from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tifffile

from common.inference.slide_run import MadeMaps, OpenedSlide, SlideRun, slide_settings
from common.maps import MapStore, TileGrid
from common.slides import Slide
from tests.inference.children import small_slide


class OneLabel:
    """Labels every pixel of a slide alike, and counts the slides."""

    def __init__(self, label: int) -> None:
        self.label, self.slides = label, 0

    def describe(self, slide: Slide) -> dict:
        return {**slide_settings(slide), "label": self.label}

    @contextmanager
    def make(self, opened: OpenedSlide, outputs: tuple[str, ...]) -> Iterator[MadeMaps]:
        self.slides += 1
        grid = TileGrid(opened.slide.shape, (1.0, 1.0), 64, 2)
        store = MapStore(opened.folder.path / ".labels", grid.shape, grid.chunk)
        store.write(0, 0, np.full(grid.shape, self.label, dtype=np.uint8))
        method = {"network": "one label", "target": {"mpp": opened.slide.mpp, "size": 64}}
        yield MadeMaps({"labels": store}, grid, method, {"segmentation": 1.234})


@pytest.fixture
def slide(tmp_path) -> Path:
    return small_slide(tmp_path / "s.tif")


def segment(run: SlideRun, maker: OneLabel, path: Path) -> dict:
    return run.attempt({"image": str(path)}, lambda item: run.run_slide(item, maker.describe, maker.make))


def test_maps_of_any_maker_become_outputs_once(slide, scheme, tmp_path):
    maker, outputs = OneLabel(2), ["prediction.tif", "summary.json"]
    result = segment(SlideRun(tmp_path / "out", outputs, scheme), maker, slide)
    folder = Path(result["output"])
    assert (tifffile.imread(folder / "prediction.tif", key=0) == 2).all()
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["network"], summary["settings"]["label"]) == ("one label", 2)
    assert summary["seconds"]["segmentation"] == 1.23
    again = segment(SlideRun(tmp_path / "out", outputs, scheme), maker, slide)
    assert maker.slides == 1
    assert again["classes"] == result["classes"]
    segment(SlideRun(tmp_path / "out", [*outputs, "overlay.png"], scheme), maker, slide)
    assert maker.slides == 2
    assert (folder / "overlay.png").exists()


def test_a_slide_that_cannot_be_segmented_is_reported_and_the_others_are_finished(slide, scheme, tmp_path):
    for name in ("damaged.tif", "blocked.tif"):
        (tmp_path / name).write_bytes(slide.read_bytes() if name == "blocked.tif" else b"II*\0")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "blocked").touch()
    run, maker = SlideRun(tmp_path / "out", ["summary.json"], scheme), OneLabel(1)
    results = [segment(run, maker, tmp_path / f"{name}.tif") for name in ("damaged", "blocked", "s")]
    assert ["error" in result for result in results] == [True, True, False]
    with pytest.raises(SystemExit, match=r"2 of 3 slides could not be segmented:\n  .*damaged.*\n  .*in the way of"):
        run.finish()


def test_results_of_other_settings_are_refused(slide, scheme, tmp_path):
    segment(SlideRun(tmp_path / "out", ["summary.json"], scheme), OneLabel(1), slide)
    refused = segment(SlideRun(tmp_path / "out", ["summary.json"], scheme), OneLabel(2), slide)
    assert "label is 1 there, 2 now" in refused["error"]
    replaced = segment(SlideRun(tmp_path / "out", ["summary.json"], scheme, overwrite=True), OneLabel(2), slide)
    assert replaced["settings"]["label"] == 2
