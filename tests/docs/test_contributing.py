"""The examples in CONTRIBUTING.md do what it says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from common.inference import WholeSlideInferer
from common.phantom import BREAST
from common.slides import SlideError, open_slide
from common.slides.backends import BACKENDS
from tests.conftest import REPOSITORY
from tests.docs.pages import fenced

_VIEWS = [{"mpp": 1.0, "size": 64}, {"mpp": 4.0, "size": 64}]


def example(number: int, package: str) -> SimpleNamespace:
    """Return what an example defines, as a module of a package."""
    code = fenced(REPOSITORY / "CONTRIBUTING.md", "python")[number]
    names: dict[str, Any] = {"__name__": f"{package}.example", "__package__": package}
    exec(compile(code, "CONTRIBUTING.md", "exec"), names)
    return SimpleNamespace(**names)


@pytest.fixture
def array(tmp_path, monkeypatch):
    """A slide in the format of the example reader, which is registered."""
    reader = example(1, "common.slides.backends").NpyBackend
    monkeypatch.setitem(BACKENDS, reader.name, reader)
    pixels = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    np.save(tmp_path / "slide.npy", pixels)
    return tmp_path / "slide.npy", pixels


def test_the_example_reader_reads_any_region_and_refuses_damaged_files(array, tmp_path):
    path, pixels = array
    slide = open_slide(path, backend="npy", mpp=0.5)
    assert np.array_equal(slide.read((150, 200), 0.5, 100), pixels[100:200, 150:250])
    assert slide.read((150, 200), 1.0, 64).shape == (64, 64, 3)
    (tmp_path / "damaged.npy").write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SlideError, match="NumPy cannot read it"):
        open_slide(tmp_path / "damaged.npy", backend="npy", mpp=0.5)


def test_the_example_format_labels_rectangles_and_names_what_it_leaves_out(tmp_path, caplog):
    path = tmp_path / "boxes.csv"
    path.write_text("stroma,0,0,40,30\ncarcinoma,10,12,20,25\nnecrotic,1,2\n")
    boxes = example(2, "common.annotations")
    regions = boxes.read_boxes(path, BREAST.scheme)
    assert [(region.label, region.outline.bounds) for region in regions] == [(4, (0, 0, 40, 30)), (1, (10, 12, 20, 25))]
    assert "row 3, 'necrotic' (2 sides)" in caplog.text
    assert boxes.box_names(path) == ["stroma", "carcinoma", "necrotic"]


@pytest.mark.parametrize("context", ["per_patch", "shared", "seamless"])
def test_the_example_network_runs_in_every_context(context, array, tmp_path):
    # Its weights are random: any labels do.
    network = example(0, "common.networks").TwoViews(width=4).eval()
    image = torch.rand(1, 6, 64, 64)
    assert network(image).shape == (1, 7, 64, 64)
    options = {"context": context, "dtype": "float32"}
    inferer = WholeSlideInferer(_VIEWS, _VIEWS[0], BREAST.scheme, tmp_path / "out", ["prediction.tif"], options=options)
    summary = inferer({"image": str(array[0]), "mpp": 0.5, "backend": "npy"}, network)
    assert sum(one["share"] for one in summary["classes"].values()) == pytest.approx(1, abs=1e-4)
