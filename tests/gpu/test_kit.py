"""The GPU kit, rehearsed on the CPU: every step runs, and a step that fails does not take the others along."""

from __future__ import annotations

import importlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from ignite.engine import Engine, Events

from common.slides import open_slide
from tests.bundles.narrow import write_phantoms_for_all
from tests.conftest import REPOSITORY
from tests.gpu.cases import BUNDLES, bundle_case
from tests.gpu.floor import LARGE, floor_seconds
from tests.gpu.output import prepare_output
from tests.gpu.records import Records, as_markdown, parse_markdown
from tests.gpu.run import STEPS, Step, run_steps
from tests.gpu.sight import gpu_in_sight


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the results of ``run.sh --miniature``."""
    out = tmp_path_factory.mktemp("gpu")
    environment = {**os.environ, "OUT": str(out), "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    # On a machine with other work, time is no reason to fail.
    command = ["bash", str(REPOSITORY / "tests" / "gpu" / "run.sh"), "--miniature", "--seconds", "1500"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=1600)
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-2000:]
    return out


@pytest.fixture(scope="module")
def tables(rehearsed: Path) -> dict[str, list[dict[str, str]]]:
    return parse_markdown((rehearsed / "table.md").read_text())


@pytest.mark.all
def test_every_step_ends_well_and_has_a_table(tables):
    outcomes = [(row["row"], row["outcome"]) for row in tables["steps"]]
    assert outcomes == [("loading", "done"), *((step.name, "done") for step in STEPS)]
    assert list(tables) == ["run", *(step.name for step in STEPS), "steps"]
    assert not [row for rows in tables.values() for row in rows if "skipped" in row.get("note", "")]
    assert "miniature" in tables["run"][0]["size"]


@pytest.mark.all
def test_tables_hold_every_row_that_was_measured(rehearsed, tables):
    measured = [json.loads(line) for line in (rehearsed / "results.jsonl").read_text().splitlines()]
    assert sum(map(len, tables.values())) == len(measured)


@pytest.mark.all
def test_on_the_cpu_labels_equal_the_cpus(tables):
    rows = {row["row"]: row for row in tables["labels"]}
    for name in (*BUNDLES, "demo", "demo_unet"):
        row = rows[f"{name}, per_patch, float32"]
        assert (row["labels_equal"], row["largest_probability_difference"], row["passed"]) == ("1", "0", "yes")
        # A map of one label would be equal whatever went wrong.
        assert int(row["labels_seen"]) > 1
    assert {"dmmn, seamless, bfloat16", "mrn, shared, float32", "da_refinenet, shared, float32"} <= set(rows)


@pytest.mark.all
def test_the_floor_is_the_papers_slide_in_operations(tables):
    # 79.3 GFLOP a patch at full width, 31,500 patches, 790 TFLOP/s: 3.2 s.
    patches = -(-LARGE[0] // 256) * -(-LARGE[1] // 256)
    assert patches == 31_500
    assert floor_seconds(patches, bundle_case("dmmn").flops()) == pytest.approx(3.16, abs=0.01)
    assert tables["slide"][0]["row"] == "floor"


@pytest.mark.usefixtures("benchmarks")
def test_every_step_can_be_loaded():
    for step in STEPS:
        module, function = step.function.split(":")
        assert callable(getattr(importlib.import_module(module), function))


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_step_that_fails_or_hangs_does_not_stop_the_next(tmp_path):
    names = ("raises", "dies", "hangs", "ends")
    steps = [Step(name, f"tests.gpu.failing:{name}", 2 if name == "hangs" else 60) for name in names]
    assert not run_steps(steps, tmp_path, miniature=True, seconds=60)
    tables = parse_markdown((tmp_path / "table.md").read_text())
    outcomes = {row["row"]: row["outcome"] for row in tables["steps"]}
    assert outcomes == {
        "loading": "done",
        "raises": "failed",
        "dies": "failed: SIGKILL",
        "hangs": "stopped after 2 s",
        "ends": "done",
    }
    assert tables["raises"][0]["note"] == "ValueError: on purpose"
    # What was measured before it hung is kept.
    assert tables["hangs"][0]["figure"] == "1"
    # Nor does a process that it started outlive it.
    assert not is_running(int(tables["hangs"][0]["child"]))
    assert not is_running(int(tables["dies"][0]["child"]))


def test_without_time_steps_are_named_as_skipped(tmp_path):
    assert not run_steps([Step("ends", "tests.gpu.failing:ends", 60)], tmp_path, miniature=True, seconds=0.1)
    assert parse_markdown((tmp_path / "table.md").read_text())["steps"][1]["outcome"] == "skipped: no time left"


def test_an_interrupted_run_keeps_what_was_measured_and_leaves_no_process(tmp_path):
    code = (
        "from pathlib import Path; import signal; from tests.gpu import run\n"
        "run.STEPS = (run.Step('hangs', 'tests.gpu.failing:hangs', 60),)\n"
        f"import sys; sys.argv = ['run', {str(tmp_path)!r}, '--miniature']\n"
        "run.main()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = next(line for line in process.stdout if "child" in line)
    process.send_signal(signal.SIGTERM)
    rest = process.communicate(timeout=30)[0]
    assert process.returncode == 130
    assert f"interrupted; what was measured is in {tmp_path}" in rest
    tables = parse_markdown((tmp_path / "table.md").read_text())
    assert tables["hangs"][0]["figure"] == "1"
    assert tables["steps"][-1]["outcome"] == "interrupted"
    assert not is_running(int(line.rsplit(" ", 1)[1]))


def test_earlier_results_are_kept(tmp_path):
    for content in ("first", "second", "third"):
        prepare_output(tmp_path)
        (tmp_path / "table.md").write_text(content)
    assert (tmp_path / "earlier-1" / "table.md").read_text() == "first"
    assert (tmp_path / "earlier-2" / "table.md").read_text() == "second"
    prepare_output(tmp_path, keep=tmp_path / "table.md")
    assert (tmp_path / "table.md").read_text() == "third"


@pytest.mark.parametrize(
    ("script", "arguments", "says"),
    [
        ("run.sh", ["--only", "slides", "--miniature"], "no step slides; there are inputs"),
        ("run.sh", [], "no GPU in sight. --miniature rehearses"),
        ("train.sh", ["dmm", "1", "--miniature"], "invalid choice: 'dmm'"),
        ("train.sh", ["dmmn", "1", "--miniature", "--data", "/no/folder"], "/no/folder lacks 1008.tif"),
        ("train.sh", ["dmmn", "1", "--miniature", "--init_weights", "none.pt"], "none.pt: no such checkpoint"),
    ],
)
def test_mistakes_are_told_at_once_and_touch_no_results(script, arguments, says, tmp_path):
    (tmp_path / "table.md").write_text("of yesterday")
    environment = {**os.environ, "OUT": str(tmp_path), "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    command = ["bash", str(REPOSITORY / "tests" / "gpu" / script), *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 2
    assert says in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["table.md"]


def test_tables_keep_figures_and_awkward_texts(tmp_path):
    records = Records(tmp_path / "r.jsonl")
    records.add("a step", "first", rate=1234.5678, same=True)
    records.add("a step", "second", note="one | two\nthree", rate=0.00012345)
    found = parse_markdown(as_markdown(records.rows()))
    assert found == {
        "a step": [
            {"row": "first", "rate": "1,234.6", "same": "yes", "note": ""},
            {"row": "second", "rate": "0.0001234", "same": "", "note": "one / two three"},
        ]
    }


@pytest.mark.usefixtures("benchmarks")
def test_weights_in_pieces_are_the_weights(tmp_path):
    from tests.gpu.minutes import write_in_pieces

    network = torch.nn.Conv2d(3, 64, 3)
    paths = write_in_pieces(network, tmp_path, 0.001)
    assert len(paths) > 2
    assert max(path.stat().st_size for path in paths) <= 0.001 * 2**20
    whole = b"".join(path.read_bytes() for path in sorted(tmp_path.iterdir()))
    state = torch.load(io.BytesIO(whole), weights_only=True)["model"]
    assert {name: value.dtype for name, value in state.items()} == {"weight": torch.bfloat16, "bias": torch.bfloat16}
    assert torch.equal(state["weight"], network.weight.to(torch.bfloat16))


@pytest.mark.all
@pytest.mark.parametrize("name", BUNDLES)
@pytest.mark.parametrize("data", ["phantoms", "bcss_tumour"])
def test_each_bundle_trains_for_a_while(name, data, tmp_path, request):
    where = [] if data == "phantoms" else ["--data", str(request.getfixturevalue("shared_data") / data)]
    environment = {**os.environ, "OUT": str(tmp_path), "PYTHON": sys.executable}
    command = ["bash", str(REPOSITORY / "tests" / "gpu" / "train.sh"), name, "0.02", "--miniature", *where]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=400)
    assert result.returncode == 0, result.stdout[-3000:]
    curve = pd.read_csv(tmp_path / "curve.csv")
    assert curve["training_loss"].notna().all()
    assert curve["validation_mean_iou"].between(0, 1).all()
    assert {"curve.png", "last.pt", "model.pt", "model.json"} <= {path.name for path in tmp_path.iterdir()}


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "tests" / "benchmarks"))


@pytest.mark.usefixtures("benchmarks")
def test_forward_passes_that_overlap_count_once():
    from tests.gpu.measure import ForwardPasses

    passes = ForwardPasses()
    origin = passes._origin
    for began, ended in ((5, 6), (0, 2), (1, 3), (1.5, 1.7), (8, 10)):
        passes.add(origin + began, origin + ended)
    assert passes.seconds() == pytest.approx(3 + 1 + 2)


@pytest.mark.usefixtures("benchmarks")
def test_waiting_for_data_is_told_from_training():
    from tests.gpu.steps.training import StepTimer

    def slow() -> Iterator[int]:
        for number in range(100):
            time.sleep(0.03)
            yield number

    trainer = Engine(lambda engine, batch: time.sleep(0.01))
    trainer.state.batch = []
    timer = StepTimer(trainer, warm_up=2, seconds=0.4)
    trainer.add_event_handler(Events.GET_BATCH_COMPLETED, lambda engine: setattr(engine.state, "batch", [0, 0]))
    trainer.run(slow(), epoch_length=100)
    figures = timer.figures()
    assert figures["patches"] % 2 == 0
    assert 6 <= figures["patches"] <= 2 * 11
    assert figures["waiting_share"] == pytest.approx(0.75, abs=0.12)


@pytest.mark.usefixtures("benchmarks")
def test_a_repeated_slide_is_one_phantom_at_every_level(tmp_path):
    from slides import write_repeated_slide

    size, period = (1300, 2200), 1024
    with open_slide(write_repeated_slide(tmp_path / "slide.tif", size, period=period)) as slide:
        assert slide.shape == size
        assert slide.mpp == 0.5
        assert [level.shape for level in slide.levels] == [(1300, 2200), (650, 1100)]
        for mpp in (0.5, 1.0):
            first = slide.read((130, 300), mpp, 128)
            assert np.array_equal(first, slide.read((130 + period, 300), mpp, 128))
            assert np.array_equal(first, slide.read((130, 300 + period), mpp, 128))
        assert not np.array_equal(first, slide.read((130 + 512, 300), mpp, 128))
        # A level is the one above it, averaged; both are JPEG.
        fine = slide.read((512, 512), 0.5, 512).reshape(256, 2, 256, 2, 3).mean(axis=(1, 3))
        assert np.abs(fine - slide.read((512, 512), 1.0, 256)).mean() < 3
    with pytest.raises(ValueError, match="times a power of two, not 1500"):
        write_repeated_slide(tmp_path / "slide.tif", size, period=1500)


def test_a_gpu_that_is_hidden_is_not_in_sight(monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda path: str(path) == "/dev/nvidiactl")
    for value, seen in ((None, True), ("0", True), ("", False), ("-1", False)):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if value is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        assert gpu_in_sight() is seen


@pytest.mark.all
@pytest.mark.usefixtures("benchmarks")
def test_the_kits_phantoms_have_patches_for_all_five_trainings_at_full_width(tmp_path):
    from tests.gpu.trainings import training_parser

    write_phantoms_for_all(tmp_path / "training", 2, 0, 0, 4096)
    for name in BUNDLES:
        parser = training_parser(name, tmp_path / "training", tmp_path / name, torch.device("cpu"))
        parser.update({"num_workers": 0, "batch_size": 1})
        assert len(parser.get_parsed_content("train#dataset")) >= 16
        assert next(iter(parser.get_parsed_content("train#dataloader")))["image"].isfinite().all()
