"""The wheel: what a package page shows, and that it works away from the project."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from .conftest import REPOSITORY


def _setup():
    spec = importlib.util.spec_from_file_location("project_setup", REPOSITORY / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_of_the_readme_work_on_a_package_page():
    page = _setup().package_page
    text = "[how](docs/a.md#b), ![picture](docs/a.png), [MONAI](https://monai.io), [below](#install)"
    assert page(text, "https://example.org/multimag/") == (
        "[how](https://example.org/multimag/docs/a.md#b), ![picture](https://example.org/multimag/docs/a.png), "
        "[MONAI](https://monai.io), [below](#install)"
    )
    assert page(text, None) == "how, , [MONAI](https://monai.io), [below](#install)"
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert "](docs/" in readme
    assert re.findall(r"\]\((?!https://|#)[^)]*\)", page(readme, None)) == []


def test_every_link_of_the_readme_leads_somewhere():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for path in re.findall(r"\]\((?!https?://|#)([^)#]+)", readme):
        assert (REPOSITORY / path).exists(), path


@pytest.mark.all
def test_a_wheel_segments_in_an_empty_environment(tmp_path, shared_data):
    """Needs a package registry or its cache; PyTorch's build is the constraints'."""
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", str(REPOSITORY), "--no-deps", "-w", tmp_path / "wheel"], check=True
    )
    (wheel,) = (tmp_path / "wheel").glob("multimag-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "multimag/pathology_mrn_segmentation/configs/small.yaml" in names
    assert not [name for name in names if name.startswith(("bundles/", "tests/")) or name.endswith("models/model.pt")]
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    constraints = ["--constraint", REPOSITORY / "constraints.txt"]
    for what in ("torch", wheel):
        subprocess.run([python, "-m", "pip", "install", "-q", "--no-compile", *constraints, what], check=True)
    slide = shared_data / "slides" / "OS-1-detail.ome.tif"
    away = tmp_path / "away"
    away.mkdir()
    command = [python.with_name("multimag"), "segment", slide, "--output", "first"]
    printed = subprocess.run(command, cwd=away, check=True, capture_output=True, text=True).stdout
    (line,) = [line for line in printed.splitlines() if line.startswith("equal to: ")]
    equal = line.removeprefix("equal to: python ").replace("--output_dir first", "--output_dir second")
    subprocess.run(f"{python} {equal}", shell=True, cwd=away, check=True)
    for name in ("prediction.tif", "prediction.geojson", "overlay.png"):
        first, second = (away / run / "OS-1-detail" / name for run in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()


def test_a_folder_that_hides_the_package_is_named(tmp_path: Path):
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "__init__.py").touch()
    code = "import multimag.clash"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path / 'common'} is found in place of MultiMag's package")
    fine = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert fine.returncode == 0, fine.stderr


def test_every_run_looks_for_a_folder_that_hides_the_package():
    configs = [path for path in REPOSITORY.glob("bundles/*/configs/*.yaml") if "\nimports:" in f"\n{path.read_text()}"]
    alone = [path for path in configs if path.name != "multi_gpu_train.yaml"]
    assert len(alone) >= 11
    for path in alone:
        assert "imports:\n  - $import multimag.clash" in path.read_text(), path
