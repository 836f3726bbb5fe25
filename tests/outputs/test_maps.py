"""Outputs on request: DICOM segmentation, probabilities, entropy."""

from __future__ import annotations

import shutil
import subprocess

import highdicom
import numpy as np
import openslide
import pytest
import tifffile
import zarr
from ome_zarr_models.v05 import Image
from pydicom import dcmread
from scipy import ndimage

from common.maps import MapStore
from common.outputs.dicom import write_dicom
from common.outputs.ome_zarr import write_probabilities
from common.outputs.pyramid import write_grey_pyramid
from common.slides import open_slide
from tests.conftest import ramp, write_pyramid
from tests.slides.test_scanner_formats import dicom


@pytest.fixture
def slide(tmp_path):
    return open_slide(write_pyramid(tmp_path / "case_7.tif", [ramp(48, 48).repeat(30, 0).repeat(30, 1)], (0.5, 0.5)))


@pytest.fixture
def labels(tmp_path) -> MapStore:
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(720, 650)), 9)
    pixels = np.digitize(noise, np.quantile(noise, [0.1, 0.25, 0.4, 0.6, 0.75, 0.9])).astype(np.uint8)
    store = MapStore(tmp_path / "labels.zarr", pixels.shape, 512)
    store.write(0, 0, pixels)
    return store


def test_a_dicom_segmentation_holds_the_label_map(slide, labels, scheme, tmp_path):
    write_dicom(tmp_path / "p.dcm", slide, labels, 1.0, scheme, "one")
    found = highdicom.seg.segread(str(tmp_path / "p.dcm"))
    assert np.array_equal(found.get_total_pixel_matrix(combine_segments=True), labels.array[:])
    assert [segment.SegmentLabel for segment in found.SegmentSequence] == scheme.names
    spacing = found.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    assert list(spacing) == [0.001, 0.001]
    write_dicom(tmp_path / "q.dcm", slide, labels, 1.0, scheme, "other")
    other = dcmread(tmp_path / "q.dcm")
    assert other.SOPInstanceUID != found.SOPInstanceUID
    assert other.FrameOfReferenceUID == found.FrameOfReferenceUID


def test_the_segmentation_of_a_dicom_slide_refers_to_it(labels, scheme, tmp_path):
    path, _, _ = dicom(tmp_path)
    write_dicom(tmp_path / "p.dcm", open_slide(path), labels, 1.0, scheme, "one")
    source, found = dcmread(path), dcmread(tmp_path / "p.dcm")
    assert found.StudyInstanceUID == source.StudyInstanceUID
    assert found.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID


@pytest.mark.all
@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian package dicom3tools) is not installed")
def test_a_validator_finds_no_error_in_the_segmentation(slide, labels, scheme, tmp_path):
    write_dicom(tmp_path / "p.dcm", slide, labels, 1.0, scheme, "one")
    said = subprocess.run(["dciodvfy", str(tmp_path / "p.dcm")], capture_output=True, text=True, check=False)
    assert "Segmentation" in said.stdout + said.stderr
    assert "Error" not in said.stdout + said.stderr


def test_probabilities_are_an_ome_zarr_image(scheme, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 1500, 2300), dtype=np.uint8)
    # Of the last blocks but one across, nothing was predicted.
    pixels[:, :, 1024:2048] = 0
    store = MapStore(tmp_path / "probabilities.zarr", pixels.shape, 512)
    store.write(0, 0, pixels[:, :, :1024])
    store.write(0, 2048, pixels[:, :, 2048:])
    write_probabilities(tmp_path / "p.zarr", store, 0.5, scheme)
    group = zarr.open_group(str(tmp_path / "p.zarr"), mode="r")
    image = Image.from_zarr(group)
    multiscale = image.ome_attributes.multiscales[0]
    assert [axis.name for axis in multiscale.axes] == ["c", "y", "x"]
    scales = [dataset.coordinateTransformations[0].scale for dataset in multiscale.datasets]
    assert [scale[1] for scale in scales] == [0.5, 1.0, 2.0]
    assert np.array_equal(group["0"][:], pixels)
    halved = pixels.reshape(6, 750, 2, 1150, 2).mean(axis=(2, 4))
    assert abs(group["1"][:] - halved).max() <= 0.5
    assert [channel["label"] for channel in group.attrs["ome"]["omero"]["channels"]] == scheme.names


def test_entropy_is_a_grey_pyramid(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (1500, 2300), dtype=np.uint8)
    pixels[512:1024] = 0
    bands = (pixels[top : top + 512] for top in range(0, 1500, 512))
    write_grey_pyramid(tmp_path / "e.tif", bands, pixels.shape, 0.5, "entropy")
    assert np.array_equal(tifffile.imread(tmp_path / "e.tif", level=0), pixels)
    halved = pixels.reshape(750, 2, 1150, 2).mean(axis=(1, 3))
    assert abs(tifffile.imread(tmp_path / "e.tif", level=1) - halved).max() <= 0.5
    opened = openslide.OpenSlide(str(tmp_path / "e.tif"))
    assert opened.level_dimensions == ((2300, 1500), (1150, 750), (575, 375))
    assert float(opened.properties["openslide.mpp-x"]) == pytest.approx(0.5)
