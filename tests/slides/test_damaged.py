"""A wrong pixel without an error is worse than a crash."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from common.slides import SlideError, open_slide
from tests.conftest import ramp, write_pyramid

BACKENDS = ("auto", "tiff", "openslide", "cucim")


def whole(path, backend):
    slide = open_slide(path, backend)
    return slide.read((slide.shape[0] / 2, slide.shape[1] / 2), slide.mpp, slide.shape)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mpp_zero.svs", "mpp="),
        ("no_mpp.svs", "mpp="),
        ("tile_jpeg_garbage.svs", "undamaged copy"),
        ("tile_offset_zero.svs", "undamaged copy"),
        ("truncated_484738.svs", "."),
        ("width_huge.svs", "header"),
    ],
)
def test_damaged_files_raise(shared_data, backend, name, says):
    with pytest.raises(SlideError, match=says) as caught:
        whole(shared_data / "malformed" / name, backend)
    assert name in str(caught.value)


def test_a_missing_mpp_can_be_given(shared_data):
    slide = open_slide(shared_data / "malformed" / "no_mpp.svs", mpp=0.499)
    sound = open_slide(shared_data / "slides" / "CMU-1-Small-Region.svs")
    assert np.array_equal(slide.read((500, 500), 1.0, 100), sound.read((500, 500), 1.0, 100))


@pytest.mark.parametrize("mpp", [0, -1, float("nan"), 0.001, 400])
def test_absurd_mpp_is_refused(tmp_path, mpp):
    Image.fromarray(ramp(40, 40)).save(tmp_path / "a.png")
    with pytest.raises(SlideError, match="outside 0.05–100"):
        open_slide(tmp_path / "a.png", mpp=mpp)


def test_printing_resolutions_are_no_mpp(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, ramp(48, 48), photometric="rgb", tile=(16, 16), resolution=(300, 300), resolutionunit="INCH")
    with pytest.raises(SlideError, match="does not say how many micrometres"):
        open_slide(path)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("damage", ["zeroed", "shortened", "emptied"])
def test_each_kind_of_damaged_tile_raises_and_names_its_place(tmp_path, backend, damage):
    path = write_pyramid(tmp_path / "slide.tif", [ramp(48, 48)], (0.5, 0.5))
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        offset, count = page.dataoffsets[5], page.databytecounts[5]
        counts_at = page.tags["TileByteCounts"].valueoffset
        width = 4 if page.tags["TileByteCounts"].dtype == 4 else 2
    with path.open("r+b") as file:
        if damage == "zeroed":
            file.seek(offset)
            file.write(bytes(count))
        else:
            file.seek(counts_at + 5 * width)
            file.write((count // 2 if damage == "shortened" else 0).to_bytes(width, "little"))
    with pytest.raises(SlideError, match=r"slide\.tif.*(tile 5|rows)"):
        whole(path, backend)


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(SlideError, match="no such file"):
        open_slide(tmp_path / "nothing.svs")


def test_a_text_file_is_no_slide(tmp_path):
    (tmp_path / "a.svs").write_text("not a slide")
    with pytest.raises(SlideError):
        open_slide(tmp_path / "a.svs")


def test_cucim_refuses_what_it_decodes_wrongly(shared_data, tmp_path):
    path = shutil.copy(shared_data / "slides" / "OS-1-detail.ome.tif", tmp_path / "a.ome.tif")
    with pytest.raises(SlideError, match="wrongly"):
        open_slide(path, "cucim")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("length", [16, 512])
def test_zeros_in_the_middle_of_a_jpeg_tile_raise(shared_data, tmp_path, backend, length):
    """Decoders make up what follows them; libjpeg only warns."""
    path = Path(shutil.copy(shared_data / "slides" / "CMU-1-Small-Region.svs", tmp_path / "a.svs"))
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[0].dataoffsets[30], file.pages[0].databytecounts[30]
    with path.open("r+b") as file:
        file.seek(offset + count // 2)
        file.write(bytes(length))
    with pytest.raises(SlideError, match=r"a\.svs.*(tile 30|rows).*undamaged copy"):
        whole(path, backend)


def test_a_damaged_plain_jpeg_raises(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg")
    sound = (tmp_path / "a.jpg").read_bytes()
    # Cameras and phones write more behind the image.
    (tmp_path / "b.jpg").write_bytes(sound + bytes(1000))
    assert open_slide(tmp_path / "b.jpg", mpp=0.5).shape == (64, 64)
    (tmp_path / "c.jpg").write_bytes(sound[:-200])
    with pytest.raises(SlideError, match="JPEG data is damaged"):
        open_slide(tmp_path / "c.jpg", mpp=0.5)
    content = bytearray(sound)
    content[len(content) // 2 : len(content) // 2 + 30] = bytes(30)
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(SlideError, match="JPEG data is damaged"):
        open_slide(tmp_path / "a.jpg", mpp=0.5)


def test_plain_images_of_more_than_8_bits_are_refused(tmp_path):
    Image.fromarray(np.full((20, 20), 30000, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(SlideError, match="I;16.*8-bit RGB"):
        open_slide(tmp_path / "a.png", mpp=0.5)


def test_what_is_transparent_lies_on_white(tmp_path):
    pixels = np.zeros((20, 20, 4), np.uint8)
    pixels[:10] = (200, 100, 150, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = open_slide(tmp_path / "a.png", mpp=0.5).read((10, 10), 0.5, 20)
    assert (found[:10] == (200, 100, 150)).all()
    assert (found[10:] == 255).all()


def test_a_folder_is_no_slide(tmp_path):
    with pytest.raises(SlideError, match="a folder, not a slide"):
        open_slide(tmp_path)


def test_a_given_mpp_that_the_file_contradicts_is_said(tmp_path, caplog):
    path = write_pyramid(tmp_path / "slide.tif", [ramp(48, 48)], (0.5, 0.5))
    assert open_slide(path, mpp=0.25).mpp == 0.25
    assert "the file says 0.5" in caplog.text


def test_without_cucim_the_error_names_the_extra(shared_data, monkeypatch):
    monkeypatch.setitem(sys.modules, "cucim", None)
    with pytest.raises(
        SlideError, match=r"cuCIM is not installed\. Install the extra, pip install 'multimag\[cucim\]'"
    ):
        open_slide(shared_data / "slides" / "CMU-1-Small-Region.svs", "cucim")
