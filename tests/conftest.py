"""Slides with known pixels, and where the real ones are."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from common.classes import ClassScheme
from common.phantom import BREAST, write_camelyon16, write_phantom

pytest_plugins = ["tests.exporting"]

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"
DMMN = REPOSITORY / "bundles" / "pathology_dmmn_segmentation"
MRN = REPOSITORY / "bundles" / "pathology_mrn_segmentation"
DA_REFINENET = REPOSITORY / "bundles" / "pathology_da_refinenet_segmentation"
MULTILEVEL = REPOSITORY / "bundles" / "pathology_multilevel_unet_segmentation"
ENCDEC = REPOSITORY / "bundles" / "pathology_multires_encdec_segmentation"

# Processes that run tests at the same time share two threads.
_PROCESSES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
torch.set_num_threads(int(os.environ.get("TEST_THREADS", str(max(1, 2 // _PROCESSES)))))

# The files that take longest, longest first. They start first: a file's tests stay in one process, and one that
# started last would be waited for.
_LONGEST = [
    "gpu/test_kit.py",
    "bundles/test_dmmn.py",
    "bundles/test_mrn.py",
    "cohort/test_run.py",
    "bundles/test_restart.py",
    "phantom/test_biopsy.py",
    "inference/test_contexts.py",
    "bundles/test_multilevel.py",
    "outputs/test_outputs.py",
    "phantom/test_phantom.py",
    "diagnosis/test_diagnosis.py",
    "inference/test_engine.py",
    "bundles/test_encdec.py",
    "bundles/test_every_bundle.py",
    "inference/test_tiles.py",
    "data/test_camelyon.py",
    "sharing/test_verify.py",
    "phantom/test_multi_stain.py",
    "data/test_distributed.py",
    "networks/test_da_refinenet.py",
    "inference/test_resume.py",
    "sharing/test_export.py",
    "slides/test_fuzz.py",
    "networks/test_networks.py",
    "bundles/test_da_refinenet.py",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {REPOSITORY / "tests" / name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    return type(value)(map(_encodable, value)) if isinstance(value, list | tuple) else value


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """A report that names a file whose name is not UTF-8 is escaped: pytest-xdist ends the whole run over one."""
    return _encodable((yield))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not (SHARED / "data").is_dir():
        pytest.skip("the real test images (../shared/data) are not here")
    return SHARED / "data"


@pytest.fixture(scope="session")
def scheme() -> ClassScheme:
    return BREAST.scheme


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory):
    """A small breast phantom: 3,072 pixels a side at 0.5 µm/px."""
    return write_phantom(tmp_path_factory.mktemp("phantom"), "phantom", 16, (3072, 3072))


@pytest.fixture(scope="session")
def camelyon16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CAMELYON16 in miniature: six lymph nodes of 1,152 pixels a side at 2 µm/px."""
    return write_camelyon16(tmp_path_factory.mktemp("camelyon16"), 2, 2, 2, size=1152, mpp=2.0, seed=500, labels=True)


# Steep, so that rounding to 8 bits hides little of a pixel, and tilted, so that over neighbouring pixels it averages
# out.
_SLOPES = np.array([[4.1, 0.77], [0.77, 4.1]])


def ramp(size: int, level0: int) -> np.ndarray:
    """An analytic level, ``size`` pixels a side, of a square slide of ``level0`` (at most 50) pixels: red and
    green are two planes over the level-0 coordinates of the pixel's centre, blue is red turned round."""
    at = (np.arange(size) + 0.5) * level0 / size
    red_green = np.stack(np.meshgrid(at, at, indexing="ij"), axis=-1) @ _SLOPES
    image = np.concatenate([red_green, 255 - red_green[..., :1]], axis=-1)
    return np.floor(image + 0.5).clip(0, 255).astype(np.uint8)


def shown_coordinates(pixels: np.ndarray) -> np.ndarray:
    """Level-0 (row, column) that each pixel of a read from :func:`ramp` shows: ``(H, W, 2)``."""
    return pixels[..., :2].astype(float) @ np.linalg.inv(_SLOPES)


def write_pyramid(
    path: Path, levels: list[np.ndarray], mpp: tuple[float, float], lossless: bool = False, tile: int = 16
) -> Path:
    """A plain tiled TIFF pyramid; mpp as (row, column) of level 0."""
    options = (
        {"compression": "adobe_deflate"}
        if lossless
        else {"compression": "jpeg", "compressionargs": {"level": 100, "outcolorspace": "RGB"}}
    )
    with tifffile.TiffWriter(path) as writer:
        for number, level in enumerate(levels):
            down = levels[0].shape[0] / level.shape[0]
            writer.write(
                level,
                photometric="rgb",
                tile=(tile, tile),
                subfiletype=int(number > 0),
                resolution=(1e4 / (mpp[1] * down), 1e4 / (mpp[0] * down)),
                resolutionunit="CENTIMETER",
                metadata=None,
                **options,
            )
    return path
