"""A real MONAI Label server, in an environment of its own that the test makes, with two exported bundles."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from xml.etree import ElementTree

import pytest
import shapely
from shapely.geometry import Polygon, mapping, shape

from common.sharing import ExportOptions, export_bundle
from common.sharing.archive import unpack
from common.sharing.export import run_isolated
from tests.conftest import DMMN, REPOSITORY

pytestmark = pytest.mark.all
_ENVIRONMENT = Path(os.environ.get("MONAILABEL_ENVIRONMENT", REPOSITORY / ".monailabel"))
_SLIDE = "CMU-1-Small-Region"
_REGION = {"location": [200, 600], "size": [1500, 1200]}  # x, y; width, height
_DEMO = "pathology_demo_segmentation"
# What one of MONAI Label's clients does, in its environment: prints the answer to one request.
_CLIENT = """
import json, sys
from monailabel.client import MONAILabelClient
client = MONAILabelClient(sys.argv[1])
given = json.loads(sys.argv[3])
if sys.argv[2] == "wsi_infer":
    _, found = client.wsi_infer(**given)
else:
    found = getattr(client, sys.argv[2])(**given)
sys.stdout.write(found.decode() if isinstance(found, bytes) else json.dumps(found))
"""


@pytest.fixture(scope="module")
def environment() -> Path:
    """MONAI Label's Python, installed as the documentation says."""
    python = _ENVIRONMENT / "bin" / "python"
    mark = _ENVIRONMENT / ".installed"
    if not mark.exists():
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        needed = ["--no-build-isolation", "-r", str(REPOSITORY / "requirements-monailabel.txt")]
        try:
            subprocess.run([sys.executable, "-m", "venv", str(_ENVIRONMENT)], check=True, capture_output=True)
            subprocess.run([*pip, "torch==2.13.0", "setuptools<81", "wheel"], check=True, capture_output=True)
            env = {**os.environ, "SAM2_BUILD_CUDA": "0"}
            subprocess.run([*pip, *needed], check=True, capture_output=True, env=env)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"MONAI Label cannot be installed here: {error.stderr.decode()[-300:]}")
        mark.touch()
    return python


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """The demonstration's weights, exported."""
    out = tmp_path_factory.mktemp("demo") / "demo.zip"
    options = ExportOptions(["demo.yaml"], _DEMO, "synthetic slides")
    return export_bundle(DMMN, DMMN / "models" / "demo.pt", out, options=options)


class Server:
    """A server, and a client of it."""

    def __init__(self, python: Path, bundles: list[Path], studies: Path, work: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.python, self.url, self.log = python, f"http://127.0.0.1:{port}", work / "server.log"
        work.mkdir()
        start = [str(python), str(REPOSITORY / "common" / "label_app" / "start.py"), *map(str, bundles)]
        start += ["--studies", str(studies), "--work", str(work), "--port", str(port)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(start, stdout=log, stderr=log, cwd=work)
        for _ in range(180):
            time.sleep(1)
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            try:
                urllib.request.urlopen(f"{self.url}/info/", timeout=5).close()
                return
            except OSError:
                continue
        raise AssertionError(self.log.read_text()[-3000:])

    def ask(self, verb: str, **given: object) -> str:
        command = [str(self.python), "-c", _CLIENT, self.url, verb, json.dumps(given)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:] + self.log.read_text()[-3000:]
        return done.stdout


@pytest.fixture(scope="module")
def server(environment, demo, exported, shared_data, tmp_path_factory):
    work = tmp_path_factory.mktemp("server")
    (work / "slides").mkdir()
    shutil.copyfile(shared_data / "slides" / f"{_SLIDE}.svs", work / "slides" / f"{_SLIDE}.svs")
    running = Server(environment, [demo, exported], work / "slides", work / "work")
    yield running
    running.process.terminate()
    running.process.wait(30)


def expected(bundle: Path, folder: Path, slide: Path) -> dict[str, shapely.Geometry]:
    """Of a run of the bundle over the whole slide: per class what lies in the region."""
    root = unpack(bundle, folder / "bundle")
    run_isolated(
        "run", "--config_file", str(root / "configs" / "inference.yaml"), "--bundle_root", str(root),
        "--slides", str(slide), "--output_dir", str(folder / "out"),
    )  # fmt: skip
    features = json.loads((folder / "out" / _SLIDE / "prediction.geojson").read_text())["features"]
    (x, y), (width, height) = _REGION["location"], _REGION["size"]
    found: dict[str, list] = {}
    for feature in features:
        part = shape(feature["geometry"]).intersection(shapely.box(x, y, x + width, y + height))
        found.setdefault(feature["properties"]["classification"]["name"], []).append(part)
    return {name: shapely.union_all(parts) for name, parts in found.items()}


def said(kind: str, text: str) -> dict[str, shapely.Geometry]:
    """Polygons per class of an answer."""
    found: dict[str, list] = {}
    if kind == "asap":
        for one in ElementTree.fromstring(text).iter("Annotation"):
            points = [(float(point.get("X")), float(point.get("Y"))) for point in one.iter("Coordinate")]
            found.setdefault(one.get("PartOfGroup"), []).append(Polygon(points))
    elif kind == "dsa":
        for one in json.loads(text)["elements"]:
            found.setdefault(one["group"], []).append(Polygon([point[:2] for point in one["points"]]))
    else:
        for element in json.loads(text)["annotations"][0]["annotation"]["elements"]:
            found.setdefault(element["label"], []).extend(map(Polygon, element["contours"]))
    return {name: shapely.union_all(shapely.make_valid(parts)) for name, parts in found.items()}


def agreement(one: dict[str, shapely.Geometry], other: dict[str, shapely.Geometry]) -> float:
    """Intersection over union of both, over the classes together."""
    nothing = Polygon()
    pairs = [(one.get(name, nothing), other.get(name, nothing)) for name in set(one) | set(other)]
    return sum(a.intersection(b).area for a, b in pairs) / sum(a.union(b).area for a, b in pairs)


def test_both_bundles_give_their_own_polygons_in_every_format(server, demo, exported, shared_data, tmp_path):
    models = json.loads(server.ask("info"))["models"]
    bundles = {_DEMO: demo, "pathology_tiny_segmentation": exported}
    assert set(models) == set(bundles)
    slide = shared_data / "slides" / f"{_SLIDE}.svs"
    answers = {}
    for name, bundle in bundles.items():
        assert models[name]["pathology"] is True
        assert models[name]["labels"]["carcinoma"] == 1
        (tmp_path / name).mkdir()
        wanted = expected(bundle, tmp_path / name, slide)
        for kind in ("asap", "dsa", "json"):
            body = {**_REGION, "level": 0, "min_poly_area": 0}
            text = server.ask("wsi_infer", model=name, image_id=_SLIDE, body=body, output=kind)
            answers[name] = said(kind, text)
            assert agreement(answers[name], wanted) >= 0.98, (name, kind)
    assert agreement(*answers.values()) < 0.9


def test_a_whole_slide_is_segmented_when_no_size_is_given(server):
    body = {"location": [0, 0], "size": [0, 0]}
    text = server.ask("wsi_infer", model=_DEMO, image_id=_SLIDE, body=body, output="dsa")
    covered = shapely.union_all(list(said("dsa", text).values()))
    assert covered.bounds[2] > 2200
    assert covered.bounds[3] > 2900


def test_training_on_what_was_annotated_changes_the_weights(server, tmp_path):
    work = server.log.parent / "model" / "pathology_tiny_segmentation" / "models" / "model.pt"
    before, other = work.read_bytes(), (work.parents[2] / _DEMO / "models" / "model.pt").read_bytes()

    def drawn(name, *corners):
        properties = {"objectType": "annotation", "classification": {"name": name}}
        return {"type": "Feature", "geometry": mapping(shapely.box(*corners)), "properties": properties}

    features = [drawn("stroma", 100, 100, 800, 800), drawn("adipose", 1000, 1000, 1600, 1900)]
    label = tmp_path / "label.geojson"
    label.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    server.ask("save_label", image_in=_SLIDE, label_in=str(label), tag="final", params={})
    params = {"max_epochs": 1, "device": "cpu", "samples_per_epoch": 8, "batch_size": 4}
    server.ask("train_start", model="pathology_tiny_segmentation", params=params)
    for _ in range(120):
        time.sleep(2)
        status = json.loads(server.ask("train_status"))
        if status["status"] not in ("SUBMITTED", "RUNNING"):
            break
    assert status["status"] == "DONE", "\n".join(status["details"])
    assert work.read_bytes() != before
    assert (work.parents[2] / _DEMO / "models" / "model.pt").read_bytes() == other


def test_what_cannot_be_done_is_said(server):
    request = urllib.request.Request(
        f"{server.url}/infer/wsi/{_DEMO}?image=none",
        method="POST",
        data=b"{}",
        headers={"Content-Type": "application/json"},
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    assert caught.value.code >= 400
    assert "There is no slide 'none'" in server.log.read_text()
