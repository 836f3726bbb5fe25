"""The page of a run: what is in the folder is on it, what is text is never code, and nothing is fetched."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import tifffile
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from common.reports.html import write_report
from common.reports.html.curves import training_curves
from tests.bundles.commands import run_common

CLASSES = [
    {"name": "stroma", "color": [60, 170, 80], "label": 1, "channel": 0},
    {"name": "carcinoma & <b>more</b>", "color": [220, 40, 40], "label": 2, "channel": 1},
]


@pytest.fixture
def run(tmp_path):
    """A segmented slide of 64 x 96 pixels, its left half stroma; scores, curves and a table next to it."""
    slide = np.full((64, 96, 3), 230, np.uint8)
    slide[:, :48] = (180, 90, 160)
    Image.fromarray(slide).save(tmp_path / "a.png")
    folder = tmp_path / "run"
    (folder / "a").mkdir(parents=True)
    labels = np.full((32, 48), 2, np.uint8)
    labels[:, :24] = 1
    tifffile.imwrite(folder / "a" / "prediction.tif", labels)
    Image.fromarray(slide[::2, ::2]).save(folder / "a" / "overlay.png")
    area = {"area_mm2": 0.768, "share": 0.5}
    summary = {
        "slide": {"file": "a.png", "shape": [64, 96], "mpp": 0.5},
        "label_map": {"shape": [32, 48], "mpp": 1.0},
        "classes": {one["name"]: area for one in CLASSES},
        "not_predicted_share": 0.125,
        "polygons": {
            "min_area_um2": 500.0,
            "written": 1234,
            "merged": {"stroma": {"regions": 3, "area_mm2": 0.1}, "not predicted": {"regions": 4, "area_mm2": 0.1}},
            "left_out": {"carcinoma & <b>more</b>": {"area_mm2": 0.2}},
        },
        "network": "UNet",
        "bundle": {"name": "my_bundle", "version": "1.0"},
        "weights": {"file": "model.pt", "sha256": "abcdef0123456789"},
        "settings": {"slide": {"bytes": (tmp_path / "a.png").stat().st_size}, "classes": CLASSES},
    }
    (folder / "a" / "summary.json").write_text(json.dumps(summary))
    return folder


def pictures(page: str) -> list[np.ndarray]:
    found = re.findall(r'(?:src|data-labels)="data:image/\w+;base64,([^"]+)"', page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in found]


def test_a_slide_and_its_classes_are_two_layers_on_one_lattice(run):
    datalist = run.parent / "slides.json"
    datalist.write_text(json.dumps({"testing": [{"image": "a.png", "mpp": 0.5}]}))
    page = write_report(run, slides=str(datalist)).read_text()
    tissue, labels = pictures(page)
    assert tissue.shape == (32, 48, 3)
    # The border between both halves lies at the same column in both layers (JPEG rounds it a little).
    red = tissue[:, :, 1].astype(int).mean(axis=0)
    assert (red[:23] < 120).all()
    assert (red[25:] > 200).all()
    assert np.abs(tissue[16, 12].astype(int) - (180, 90, 160)).max() < 6
    assert np.abs(tissue[16, 36].astype(int) - 230).max() < 6
    assert (labels[:, :24] == 1).all()
    assert (labels[:, 24:] == 2).all()
    assert "12.5 % not predicted" in page
    assert "1,234 polygons in prediction.geojson; 7 regions smaller than 500 µm² merged" in page
    assert "without carcinoma &amp; &lt;b&gt;more&lt;/b&gt;. The label map" in page
    assert "0.768" in page
    assert "my_bundle" in page
    # The viewer's scale is of the picture, not of the slide's pixels.
    assert 'data-mpp="1.0"' in page


def test_a_large_map_is_thinned_to_the_slide_s_lattice(run):
    datalist = run.parent / "slides.json"
    datalist.write_text(json.dumps({"testing": [{"image": "a.png", "mpp": 0.5}]}))
    tissue, labels = pictures(write_report(run, slides=str(datalist), longest=16).read_text())
    assert tissue.shape[:2] == labels.shape == (11, 16)
    assert (labels[:, :8] == 1).all()
    assert (labels[:, 8:] == 2).all()


def test_without_the_slide_its_overlay_is_shown_and_another_file_is_not(run):
    page = run_common("report", run).strip()
    assert page.endswith("report.html")
    (shown,) = pictures((run / "report.html").read_text())
    assert shown.shape == (32, 48, 3)
    Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(run.parent / "a.png")
    datalist = run.parent / "slides.json"
    datalist.write_text(json.dumps({"testing": [{"image": "a.png", "mpp": 0.5}]}))
    page = write_report(run, slides=str(datalist)).read_text()
    assert "it is not the file that was segmented" in page
    assert len(pictures(page)) == 1


def test_names_are_text_and_nothing_is_fetched(run):
    page = write_report(run).read_text()
    assert "<b>more</b>" not in page
    assert "carcinoma &amp; &lt;b&gt;more" in page
    assert "default-src 'none'" in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)


def test_no_cell_of_a_table_is_a_formula_once_it_is_copied(run):
    """Names of slides, classes and whatever a table holds; figures and what was inert already stay."""
    shutil.copytree(run / "a", run / "=slide()")
    path = run / "a" / "summary.json"
    summary = json.loads(path.read_text())
    summary["classes"]["=HYPERLINK(1)"] = {"area_mm2": 0.125, "share": 0.1}
    path.write_text(json.dumps(summary))
    (run / "scores").mkdir()
    figures = dict.fromkeys(("iou", "recall", "precision", "f1"), 0.25)
    scores = {
        "mean_iou": 0.5,
        "pixel_accuracy": 0.5,
        "labelled_pixels": 1,
        "classes": {"+SUM(1)": figures},
        "context_reliance": {},
    }
    (run / "scores" / "scores.json").write_text(json.dumps(scores))
    (run / "table.csv").write_text("run,@loss\n=1+1,-0.5\n'=2+2,-3\n-x,0\n")
    page = write_report(run).read_text()
    cells = [html.unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(?:<a[^>]*>|<input[^>]*>)*([^<]*)", page)]
    assert {"'=slide()", "'=HYPERLINK(1)", "'+SUM(1)", "'@loss", "'=1+1", "'=2+2", "'-x", "-0.5", "-3"} <= set(cells)
    assert not [cell for cell in cells if cell[:1] in tuple("=+-@\t\r") and not re.fullmatch(r"-[\d.]+", cell)]


def test_scores_curves_and_tables_are_on_it(run):
    figures = dict.fromkeys(("iou", "recall", "precision", "f1"), 0.25)
    scores = {
        "mean_iou": 0.4321,
        "pixel_accuracy": 0.75,
        "labelled_pixels": 1234567,
        "classes": {"stroma": figures, "carcinoma": dict.fromkeys(figures)},
        "context_reliance": {"view 2": 0.0625},
        "slides": [{}],
    }
    (run / "scores").mkdir()
    (run / "scores" / "scores.json").write_text(json.dumps(scores))
    Image.new("RGB", (8, 8), "red").save(run / "scores" / "confusion.png")
    Image.new("RGB", (9, 9), "blue").save(run / "panel.png")
    (run / "comparison.csv").write_text("run,mean IoU\nmine,0.123456\n" + "".join(f"x{i},0\n" for i in range(250)))
    with SummaryWriter(str(run / "training")) as writer:
        for step in range(3):
            writer.add_scalar("train_loss", 1 / (1 + step), step)
    assert training_curves(run / "training") == {"train_loss": [(0, 1.0), (1, 0.5), (2, pytest.approx(1 / 3))]}
    page = write_report(run).read_text()
    for text in ("0.4321", "1,234,567", "when view 2 comes from elsewhere: 0.0625", "0.1235", "51 more rows", "–"):
        assert text in page
    assert sorted(picture.shape[0] for picture in pictures(page))[:2] == [8, 9]
    assert len(pictures(page)) == 4


def test_slides_of_other_classes_are_not_put_under_wrong_names(run):
    shutil.copytree(run / "a", run / "other" / "a")
    path = run / "other" / "a" / "summary.json"
    summary = json.loads(path.read_text())
    summary["classes"] = {"necrotic": {"area_mm2": 0.125, "share": 0.1}, "stroma": {"area_mm2": 0.25, "share": 0.2}}
    path.write_text(json.dumps(summary))
    page = write_report(run).read_text()
    table = re.search(r"<caption>Area.*?</table>", page, re.S).group()
    rows = [re.findall(r"<t[hd][^>]*>(?:<a[^>]*>)?([^<]*)", row) for row in table.split("<tr>")[1:]]
    assert rows[0] == ["slide", "stroma", "carcinoma &amp; &lt;b&gt;more&lt;/b&gt;", "necrotic"]
    assert rows[1] == ["a", "0.768", "0.768", "–"]
    assert rows[2] == ["other/a", "0.250", "–", "0.125"]


def test_an_odd_file_is_named_and_the_rest_is_shown(run):
    (run / "c").mkdir()
    (run / "c" / "empty.csv").write_text("")
    (run / "c" / "summary.json").write_text("{}")
    (run / "scores.json").write_text('{"a": 1}')
    page = write_report(run).read_text()
    for text in ("empty.csv: No columns", "c/summary.json: no summary", "scores.json: no scores"):
        assert text in page
    assert len(pictures(page)) == 1


def test_what_is_not_finished_or_not_there_is_said(run, tmp_path):
    (run / "b" / ".unfinished").mkdir(parents=True)
    assert "Not finished, and not shown: b." in write_report(run).read_text()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="nothing to show"):
        write_report(tmp_path / "empty")
    with pytest.raises(ValueError, match="no such folder"):
        write_report(tmp_path / "none")


@pytest.mark.all
def test_a_browser_draws_it(run, tmp_path):
    """The classes are drawn in their colours, at the opacity that the slider says."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no Chromium here")
    datalist = run.parent / "slides.json"
    datalist.write_text(json.dumps({"testing": [{"image": "a.png", "mpp": 0.5}]}))
    page = write_report(run, slides=str(datalist))
    common = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
    common += ["--disable-background-networking", "--disable-component-update", "--virtual-time-budget=4000"]
    common += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1500,1000", "--enable-logging=stderr"]
    shot = tmp_path / "shot.png"
    subprocess.run([*common, f"--screenshot={shot}", page.as_uri()], check=True, capture_output=True, timeout=120)
    done = subprocess.run(
        [*common, "--dump-dom", page.as_uri()], check=True, capture_output=True, text=True, timeout=120
    )
    assert 'data-drawn="2"' in done.stdout
    assert "Uncaught" not in done.stderr
    colors = {tuple(color) for color in np.asarray(Image.open(shot).convert("RGB")).reshape(-1, 3).tolist()}
    for tissue, one in zip(((180, 90, 160), (230, 230, 230)), CLASSES, strict=True):
        mixed = np.round(0.55 * np.array(tissue) + 0.45 * np.array(one["color"]))
        assert any(np.abs(mixed - color).max() <= 6 for color in colors), mixed


def noted(run, **said):
    """The page of the slide, whose weights are said to be these, and of another one that says nothing of its own."""
    path = run / "a" / "summary.json"
    summary = json.loads(path.read_text())
    shutil.copytree(run / "a", run / "b")
    summary["weights"] |= {"synthetic": said.get("synthetic")}
    path.write_text(json.dumps({**summary, "weights_note": said["note"]}))
    return write_report(run).read_text()


def test_weights_of_synthetic_slides_are_a_banner_above_everything_that_names_their_slides(run):
    page = noted(run, synthetic=True, note="Trained on <painted> slides only.")
    main = page.index("<main>")
    banner = page.index('<p class="banner" role="alert">Trained on &lt;painted&gt; slides only. This concerns a.</p>')
    assert main < banner < page.index('<section id="slides">')
    assert page.count("Trained on &lt;painted&gt; slides only.") == 2  # and in the record below
    assert page.count('<p class="weights">What the weights were trained on is not known.</p>') == 1
    shutil.rmtree(run / "b")
    assert '<p class="banner" role="alert">Trained on &lt;painted&gt; slides only.</p>' in write_report(run).read_text()


def test_other_weights_are_a_line_at_each_slide(run):
    page = noted(run, synthetic=False, note="Weights trained on 12 H&E slides.")
    assert page.count('<p class="weights">Weights trained on 12 H&amp;E slides.</p>') == 1
    assert "banner" not in page.split("<body>")[1]
