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

import numpy as np
import pytest
import shapely
from shapely.geometry import Polygon, mapping

from common.annotations import read_annotations
from common.phantom import BREAST
from common.sharing import ExportOptions, export_bundle
from common.sharing.archive import unpack
from common.sharing.export import run_isolated
from common.slides import open_slide
from tests.conftest import DMMN, REPOSITORY
from tests.slides.test_scanner_formats import leica

pytestmark = pytest.mark.all
_ENVIRONMENT = Path(os.environ.get("MONAILABEL_ENVIRONMENT", REPOSITORY / ".monailabel"))
_SLIDE, _SCN = "CMU-1-Small-Region", "with_bounds"
_REGION = {"location": [200, 600], "size": [1500, 1200]}  # x, y; width, height
_DEMO, _UNET = "pathology_demo_segmentation", "pathology_unet_segmentation"
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
def bundles(tmp_path_factory) -> dict[str, Path]:
    """The demonstration's two networks, exported."""
    folder, found = tmp_path_factory.mktemp("demo"), {}
    for name, weights, overlays in ((_DEMO, "demo", []), (_UNET, "demo_unet", ["ablations/demo_unet.yaml"])):
        options = ExportOptions(["demo.yaml", *overlays], name, "synthetic slides")
        weights = DMMN / "models" / f"{weights}.pt"
        found[name] = export_bundle(DMMN, weights, folder / f"{name}.zip", options=options)
    return found


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
def server(environment, bundles, shared_data, tmp_path_factory):
    work = tmp_path_factory.mktemp("server")
    (work / "slides").mkdir()
    shutil.copyfile(shared_data / "slides" / f"{_SLIDE}.svs", work / "slides" / f"{_SLIDE}.svs")
    scan = np.full((512, 512, 3), 245, np.uint8)
    scan[128:, 256:] = (150, 60, 130)
    leica(work / "slides", [scan, scan[::2, ::2]], (96, 32), (800, 1024), f"{_SCN}.scn")
    running = Server(environment, list(bundles.values()), work / "slides", work / "work")
    yield running
    running.process.terminate()
    running.process.wait(30)


def expected(bundle: Path, folder: Path, slide: Path) -> np.ndarray:
    """Of a run of the bundle over the whole slide: the label map of the region, from its polygons."""
    root = unpack(bundle, folder / "bundle")
    run_isolated(
        "run", "--config_file", str(root / "configs" / "inference.yaml"), "--bundle_root", str(root),
        "--slides", str(slide), "--output_dir", str(folder / "out"),
    )  # fmt: skip
    return label_map(folder / "out" / _SLIDE / "prediction.geojson", slide)


def said(kind: str, text: str) -> list[tuple[str, Polygon]]:
    """Classes and outlines of an answer."""
    if kind == "asap":
        found = ElementTree.fromstring(text).iter("Annotation")
        points = [(one.get("PartOfGroup"), one.iter("Coordinate")) for one in found]
        return [(name, Polygon([(float(at.get("X")), float(at.get("Y"))) for at in every])) for name, every in points]
    if kind == "dsa":
        return [(one["group"], Polygon([at[:2] for at in one["points"]])) for one in json.loads(text)["elements"]]
    elements = json.loads(text)["annotations"][0]["annotation"]["elements"]
    return [(one["label"], Polygon(outline)) for one in elements for outline in one["contours"]]


def drawn(name: str, outline: Polygon) -> dict:
    """An annotation as QuPath writes it."""
    properties = {"objectType": "annotation", "classification": {"name": name}}
    return {"type": "Feature", "geometry": mapping(outline), "properties": properties}


def label_map(geojson: Path, slide: Path) -> np.ndarray:
    """The region's labels, one per level-0 pixel."""
    (x, y), (width, height) = _REGION["location"], _REGION["size"]
    with open_slide(slide) as opened:
        source = read_annotations(geojson, BREAST.scheme)
        return source.drawn(opened, (y + height / 2, x + width / 2), opened.mpp, (height, width))


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of both, over the classes together."""
    both = int(((one == other) & (one > 0)).sum())
    return both / (int((one > 0).sum()) + int((other > 0).sum()) - both)


def test_both_bundles_give_their_own_polygons_in_every_format(server, bundles, shared_data, tmp_path):
    models = json.loads(server.ask("info"))["models"]
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
            features = [drawn(*one) for one in said(kind, text)]
            path = tmp_path / name / f"{kind}.geojson"
            path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
            answers[name] = label_map(path, slide)
            assert agreement(answers[name], wanted) >= 0.98, (name, kind)
    assert agreement(*answers.values()) < 0.9


def test_a_whole_slide_is_segmented_when_no_size_is_given(server):
    body = {"location": [0, 0], "size": [0, 0]}
    text = server.ask("wsi_infer", model=_DEMO, image_id=_SLIDE, body=body, output="dsa")
    right, bottom = shapely.bounds([outline for _, outline in said("dsa", text)]).max(axis=0)[2:]
    # Labels are of 1 µm, and the slide of 2220 x 2967 pixels of 0.499 µm: those that lie on it wholly.
    assert (right, bottom) == pytest.approx((1107 / 0.499, 1480 / 0.499), abs=0.01)


def test_on_a_slide_with_bounds_positions_count_from_where_the_request_says(server):
    whole = {"location": [0, 0], "size": [0, 0]}
    assert "has bounds (from row 96, column 32), and nothing says" in refused(server, _DEMO, _SCN, whole)
    outlines = {}
    for origin in ("slide", "bounds"):
        body = {**whole, "params": {"origin": origin}}
        answer = server.ask("wsi_infer", model=_DEMO, image_id=_SCN, body=body, output="asap")
        outlines[origin] = [outline for _, outline in said("asap", answer)]
    moved = [shapely.affinity.translate(outline, -32, -96) for outline in outlines["slide"]]
    assert len(moved) > 0
    assert all(one.equals_exact(other, 1e-6) for one, other in zip(moved, outlines["bounds"], strict=True))


def refused(server, model: str, image: str, body: dict) -> str:
    """Return the server's answer to a request that it refuses."""
    request = urllib.request.Request(
        f"{server.url}/infer/wsi/{model}?image={image}",
        method="POST",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    assert caught.value.code >= 400
    return caught.value.read().decode()


def test_training_on_what_was_annotated_changes_the_weights(server, tmp_path):
    work = server.log.parent / "model" / _UNET / "models" / "model.pt"
    before, other = work.read_bytes(), (work.parents[2] / _DEMO / "models" / "model.pt").read_bytes()

    annotated = {"stroma": (100, 100, 800, 800), "adipose": (1000, 1000, 1600, 1900)}
    features = [drawn(name, shapely.box(*corners)) for name, corners in annotated.items()]
    label = tmp_path / "label.geojson"
    label.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    server.ask("save_label", image_id=_SLIDE, label_in=str(label), tag="final", params={})
    params = {"max_epochs": 1, "device": "cpu", "samples_per_epoch": 8, "batch_size": 4}
    server.ask("train_start", model=_UNET, params=params)
    for _ in range(120):
        time.sleep(2)
        status = json.loads(server.ask("train_status"))
        if status["status"] not in ("SUBMITTED", "RUNNING"):
            break
    assert status["status"] == "DONE", "\n".join(status["details"])
    assert work.read_bytes() != before
    assert (work.parents[2] / _DEMO / "models" / "model.pt").read_bytes() == other


def test_what_cannot_be_done_is_said(server):
    assert "There is no slide 'none'" in refused(server, _DEMO, "none", {})


@pytest.mark.parametrize("headers", [{"Origin": "http://example.org"}, {"Origin": "null"}, {"Host": "example.org"}])
def test_pages_of_other_places_are_not_answered(headers, server):
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(urllib.request.Request(f"{server.url}/info/", headers=headers))
    with urllib.request.urlopen(f"{server.url}/info/") as answer:
        assert "access-control-allow-origin" not in answer.headers
