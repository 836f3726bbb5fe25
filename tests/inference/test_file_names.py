"""Slides whose file names other programs would not have given them."""

from __future__ import annotations

import json
import os
import shutil
import sys

import pytest

from common.files import utf8, write_json
from common.outputs.writer import SUMMARY
from tests.conftest import ramp, write_pyramid
from tests.inference.test_parts import inferer
from tests.inference.test_resume import Stepwise


# pytest-xdist cannot pass on a warning that names such a file.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(sys.platform == "darwin", reason="macOS refuses names that are not UTF-8")
def test_a_slide_whose_name_is_not_utf8_is_segmented_and_named_in_its_summary(tmp_path, scheme):
    plain = write_pyramid(tmp_path / "s.tif", [ramp(48, 48)], (0.5, 0.5))
    latin = os.fsdecode(os.fsencode(tmp_path) + b"/pr\xe4p.tif")
    shutil.copyfile(plain, latin)
    run = inferer(tmp_path / "out", scheme)
    assert "error" not in run({"image": latin}, Stepwise())
    assert "error" not in run({"image": str(plain)}, Stepwise())
    [summary] = (tmp_path / "out").glob(f"pr*/{SUMMARY}")
    assert "pr\udce4p" in json.dumps(json.loads(summary.read_bytes()), ensure_ascii=False)


def test_a_byte_that_is_not_utf8_survives_json(tmp_path):
    name = os.fsdecode(b"pr\xe4p.tif")
    write_json(tmp_path / "a.json", {"image": name})
    assert json.loads((tmp_path / "a.json").read_bytes()) == {"image": name}
    assert utf8(name) == rb"pr\udce4p.tif"


def test_a_file_in_the_place_of_a_slides_folder_costs_that_slide_only(tmp_path, scheme):
    first, second = (str(write_pyramid(tmp_path / f"{name}.tif", [ramp(48, 48)], (0.5, 0.5))) for name in "ab")
    run = inferer(tmp_path / "out", scheme)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").symlink_to(tmp_path / "nowhere")
    assert "in the way of the outputs: move it" in run({"image": first}, Stepwise())["error"]
    assert "error" not in run({"image": second}, Stepwise())
    with pytest.raises(SystemExit, match="1 of 2 slides"):
        run.finish()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (".lock", "folder"),
        (".lock", "link"),
        (".unfinished", "file"),
        (".unfinished", "link"),
        (".unfinished/blocks.txt", "folder"),
        (".unfinished/labels.zarr", "file"),
        (".finished", "file"),
        ("summary.json", "folder"),
    ],
)
def test_what_is_in_the_way_in_a_slides_folder_is_named(tmp_path, scheme, name, kind):
    slide = str(write_pyramid(tmp_path / "s.tif", [ramp(48, 48)], (0.5, 0.5)))
    place = tmp_path / "out" / "s" / name
    place.parent.mkdir(parents=True)
    {"folder": place.mkdir, "file": place.touch, "link": lambda: place.symlink_to(tmp_path / "no" / "where")}[kind]()
    assert f"{place}: " in inferer(tmp_path / "out", scheme)({"image": slide}, Stepwise())["error"]
    assert not (tmp_path / "out" / "s" / "prediction.tif").exists()
