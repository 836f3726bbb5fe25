"""Bundles side by side in one process."""

from __future__ import annotations

import shutil

import pytest
import torch

from common.label_app.bundles import serve
from common.networks.checkpoint_metadata import read_checkpoint_metadata
from common.sharing import ExportOptions, export_bundle
from common.sharing.archive import BundleFileError, unpack, write_checksums, write_zip
from tests.conftest import DMMN
from tests.exporting import random_checkpoint


def test_each_bundle_runs_its_own_modules(exported, small_dmmn, tmp_path):
    """Two bundles whose scripts differ: neither is given the other's."""
    overlay, checkpoint = small_dmmn
    other = unpack(
        export_bundle(DMMN, checkpoint, tmp_path / "other.zip", options=ExportOptions([str(overlay)], "other_bundle")),
        tmp_path / "changed",
    )
    networks = other / "scripts" / "networks" / "dmmn.py"
    networks.write_text(networks.read_text() + "\n\nDMMNM3.altered = True\n")
    write_checksums(other)
    served = [serve(path, tmp_path / "work") for path in (exported, other)]
    # The other one is loaded in between, and late imports must still be the first one's.
    first, second = (bundle.parser("inference.yaml").get_parsed_content("network_def") for bundle in served)
    assert type(first) is not type(second)
    assert not hasattr(first, "altered")
    assert second.altered
    inferers = [bundle.parser("inference.yaml").get_parsed_content("inferer") for bundle in served]
    for inferer, bundle in zip(inferers, served, strict=True):
        assert type(inferer).__module__.split(".")[0] == bundle.package


def test_a_trained_copy_is_kept_and_another_bundle_of_its_name_is_refused(exported, small_dmmn, tmp_path):
    served = serve(exported, tmp_path / "work")
    assert read_checkpoint_metadata(served.checkpoint).bundle == served.name
    torch.save({"trained": torch.zeros(1)}, served.checkpoint)
    assert "trained" in torch.load(serve(exported, tmp_path / "work").checkpoint)
    overlay, checkpoint = small_dmmn
    options = ExportOptions([str(overlay)], served.name, trained_on="something else")
    another = export_bundle(DMMN, checkpoint, tmp_path / "another.zip", options=options)
    with pytest.raises(ValueError, match="holds another bundle of that name"):
        serve(another, tmp_path / "work")
    assert "trained" in torch.load(served.checkpoint)


def test_what_is_out_of_order_is_not_served(exported, tmp_path):
    bundle = unpack(exported, tmp_path / "bundles")
    (bundle / "configs" / "inference.yaml").write_text("changed: true\n")
    write_zip(bundle, tmp_path / "changed.zip")
    for path in (bundle, tmp_path / "changed.zip"):
        with pytest.raises(BundleFileError, match="its SHA-256 is not"):
            serve(path, tmp_path / "work")
    (bundle / "models" / "model.pt").write_bytes(b"cut short")
    write_checksums(bundle)
    with pytest.raises(ValueError, match="cut short"):
        serve(bundle, tmp_path / "work")
    (bundle / "models" / "model.pt").unlink()
    write_checksums(bundle)
    with pytest.raises(ValueError, match="train it"):
        serve(bundle, tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_a_bundle_of_this_project_is_served_with_weights_of_its_own(tmp_path):
    shutil.copytree(DMMN, tmp_path / DMMN.name, ignore=shutil.ignore_patterns("*.pt"))
    random_checkpoint(tmp_path / DMMN.name / "models" / "model.pt", DMMN)
    served = serve(tmp_path / DMMN.name, tmp_path / "work")
    assert served.package is None
    assert served.folder != tmp_path / DMMN.name
    inferer = served.parser("inference.yaml").get_parsed_content("inferer")
    assert type(inferer).__module__ == "common.inference.inferer"
