"""A bundle exported once, with weights nobody trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from common.sharing import ExportOptions, export_bundle
from common.sharing.archive import unpack
from tests.bundles.commands import configs_of
from tests.conftest import DMMN

TRAINED_ON = "Nothing: random numbers, CC0."
# Narrow, and on views that a test can segment soon.
OVERLAY = """\
network_def#channels: [4, 6, 8, 10, 12]
fields_of_view: [{mpp: 1.0, size: 64}, {mpp: 2.0, size: 64}, {mpp: 4.0, size: 64}]
target: {mpp: 1.0, size: 64}
checkpoint: models/elsewhere.pt
datalist: /home/somebody/slides.json
"""


def random_checkpoint(path: Path, bundle: Path, *overlays: Path | str) -> Path:
    """Weights of a bundle's network as training would write them."""
    configs = [*configs_of(bundle, "inference.yaml"), *map(str, overlays)]
    torch.manual_seed(0)
    network = ConfigParser(ConfigParser.load_config_files(configs)).get_parsed_content("network_def")
    torch.save({"model": network.state_dict()}, path)
    return path


@pytest.fixture(scope="session")
def small_dmmn(tmp_path_factory) -> tuple[Path, Path]:
    """An overlay and a checkpoint trained with it."""
    folder = tmp_path_factory.mktemp("small_dmmn")
    overlay = folder / "small.yaml"
    overlay.write_text(OVERLAY)
    return overlay, random_checkpoint(folder / "trained.pt", DMMN, overlay)


@pytest.fixture(scope="session")
def exported(small_dmmn, tmp_path_factory) -> Path:
    """DMMN as a zip."""
    overlay, checkpoint = small_dmmn
    options = ExportOptions([str(overlay)], "pathology_tiny_segmentation", TRAINED_ON, "1.10", "narrow")
    return export_bundle(DMMN, checkpoint, tmp_path_factory.mktemp("exported") / "tiny.zip", options=options)


@pytest.fixture
def unpacked_bundle(exported, tmp_path) -> Path:
    """Its folder, to change."""
    return unpack(exported, tmp_path / "bundles")
