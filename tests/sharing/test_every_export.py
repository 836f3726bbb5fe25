"""Every bundle, exported: it runs where this project is not, and passes the Model Zoo's own checks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from common.sharing import ExportOptions, export_bundle, verify_bundle
from common.sharing.archive import unpack
from common.sharing.export import run_isolated
from common.sharing.model_files import check_model_file
from tests.conftest import DMMN, REPOSITORY, SHARED
from tests.exporting import random_checkpoint

pytestmark = pytest.mark.all
BUNDLES = sorted((REPOSITORY / "bundles").glob("pathology_*"))
SCHEMA = SHARED / "data" / "monai" / "meta_schema_20240725.json"
every_bundle = pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """Zips by bundle, each made once; with the demonstration's weights where there are any, else with random ones."""
    folder, made = tmp_path_factory.mktemp("exports"), {}

    def export(bundle: Path) -> Path:
        if bundle not in made:
            weights = folder / f"{bundle.name}.pt"
            if bundle == DMMN:
                weights = DMMN / "models" / "demo.pt"
            else:
                random_checkpoint(weights, bundle, bundle / "configs" / "small.yaml")
            overlay = "demo.yaml" if bundle == DMMN else "small.yaml"
            options = ExportOptions([overlay], trained_on="synthetic slides, or nothing")
            made[bundle] = export_bundle(bundle, weights, folder / f"{bundle.name}.zip", options=options)
        return made[bundle]

    return export


@every_bundle
def test_an_exported_bundle_is_verified(bundle, exports):
    found = verify_bundle(exports(bundle), SCHEMA if SCHEMA.exists() else None)
    assert [str(finding) for finding in found if finding.problems] == []
    assert {"trains", "evaluates", "segments a slide", "TorchScript"} <= {finding.check for finding in found}


@every_bundle
def test_the_model_zoo_s_own_checks_pass(bundle, exports, shared_data, tmp_path):
    """MODEL_ZOO names a checkout of the Model Zoo, none of which is part of this project."""
    zoo = os.environ.get("MODEL_ZOO")
    if not zoo or not (Path(zoo) / "ci" / "verify_bundle.py").is_file():
        pytest.skip("set MODEL_ZOO to a checkout of the Model Zoo to run its ci/verify_bundle.py")
    shutil.copytree(Path(zoo) / "ci", tmp_path / "ci")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model_info.json").write_text("{}")
    root = unpack(exports(bundle), tmp_path / "models")
    (root / "eval").mkdir()
    shutil.copyfile(SCHEMA, root / "eval" / "schema.json")
    for mode in (["-m", "min"], []):
        command = [sys.executable, "ci/verify_bundle.py", "-b", bundle.name, *mode]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    assert "data shape is verified correctly." in done.stdout
    assert "export weights into TorchScript module successfully." in done.stdout


@every_bundle
@pytest.mark.parametrize("kind", ["ts", "pt2", "onnx"])
def test_the_network_comes_in_other_formats_too(bundle, kind, exports, tmp_path):
    """Each format is compared with the network when it is written; the same weights give the same bytes, and they are
    accepted."""
    if kind == "onnx":
        pytest.importorskip("onnx", reason="the extra onnx is not installed")
    root = unpack(exports(bundle), tmp_path)
    files = [tmp_path / name / f"model.{kind}" for name in ("one", "other")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        run_isolated("model", kind, str(root), str(file))
    content = files[0].read_bytes()
    assert content == files[1].read_bytes()
    assert str(tmp_path).encode() not in content
    check_model_file(files[0])
