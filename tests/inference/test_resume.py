"""A run that is stopped at any moment resumes by the same command."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from common.inference import InferenceOptions, SettingsError, WholeSlideInferer
from common.inference.progress_log import ProgressLog
from common.networks import MRN
from common.slides import FieldOfView
from tests.conftest import ramp, write_pyramid

VIEW = FieldOfView(0.5, 64)
OUTPUTS = ("prediction.tif", "prediction.geojson", "overlay.png", "summary.json", "entropy.tif", "probabilities.zarr")


class Stepwise(torch.nn.Module):
    """Classes by brightness; stops where it is told to."""

    def __init__(self, stop_after: int | None = None, seconds: float = 0.0) -> None:
        super().__init__()
        self.edges = torch.nn.Parameter(torch.tensor([0.2, 0.4, 0.5, 0.6, 0.8]))
        self.calls, self.stop_after, self.seconds = 0, stop_after, seconds

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == self.stop_after:
            raise RuntimeError("out of memory")
        time.sleep(self.seconds)
        distance = image.mean(dim=1, keepdim=True) - self.edges[None, :, None, None]
        return torch.cat([distance[:, :1] * 0, -20 * distance.square(), distance[:, :1] * 2], dim=1)


@pytest.fixture
def slide(tmp_path):
    # 9 x 9 targets, 25 blocks of 2 x 2.
    return str(write_pyramid(tmp_path / "s.tif", [ramp(48, 48).repeat(12, 0).repeat(12, 1)], (0.5, 0.5)))


def run(slide: str, out: Path, scheme, network: torch.nn.Module, **arguments) -> tuple[WholeSlideInferer, dict]:
    options = InferenceOptions(batch_size=4, block=2, **arguments.pop("options", {}))
    inferer = WholeSlideInferer([VIEW], VIEW, scheme, out, outputs=OUTPUTS, options=options, **arguments)
    return inferer, inferer({"image": slide}, network)


def contents(folder: Path) -> dict[str, bytes]:
    """All files but for what a clock says."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    summary = json.loads(files.pop("summary.json"))
    del summary["seconds"]
    return {**files, "summary.json": json.dumps(summary).encode()}


def test_a_stopped_slide_resumes_where_it_was_and_ends_the_same(slide, scheme, tmp_path):
    run(slide, tmp_path / "whole", scheme, whole := Stepwise())
    with pytest.raises(RuntimeError, match="out of memory"):
        run(slide, tmp_path / "stopped", scheme, Stepwise(stop_after=11))
    assert not (tmp_path / "stopped" / "s" / "prediction.tif").exists()
    run(slide, tmp_path / "stopped", scheme, rest := Stepwise())
    assert 25 - 11 <= rest.calls < whole.calls == 25
    assert contents(tmp_path / "stopped" / "s") == contents(tmp_path / "whole" / "s")


class StoppedMRN(MRN):
    """Stops where it is told to. Untrained, it says pixel noise, of which no outlines are drawn."""

    calls, stop_after = 0, 0

    def forward_with_context(self, finest: torch.Tensor, context: list[torch.Tensor]) -> torch.Tensor:
        self.calls += 1
        if self.calls == self.stop_after:
            raise RuntimeError("out of memory")
        return super().forward_with_context(finest, context)


@pytest.mark.parametrize("options", [{"context": "shared"}, {"context": "seamless"}, {"overlap": 0.5}])
def test_a_network_of_several_resolutions_resumes_and_ends_the_same(slide, scheme, tmp_path, options):
    views = [VIEW, FieldOfView(1.0, 64)]
    calls, few = {}, ("prediction.tif", "summary.json")
    for folder, stop_after in (("whole", 0), ("stopped", 9), ("stopped", 0)):
        torch.manual_seed(0)
        network = StoppedMRN(out_channels=7, resolutions=2, channels=(3, 4, 5))
        network.stop_after = stop_after
        made = InferenceOptions(batch_size=4, block=2, **options)
        inferer = WholeSlideInferer(views, VIEW, scheme, tmp_path / folder, outputs=few, options=made)
        with pytest.raises(RuntimeError, match="out of memory") if stop_after else nullcontext():
            inferer({"image": slide}, network)
        calls[folder] = network.calls
    assert calls["stopped"] < calls["whole"]
    assert contents(tmp_path / "stopped" / "s") == contents(tmp_path / "whole" / "s")


def test_a_finished_slide_is_skipped_unless_it_is_to_be_overwritten(slide, scheme, tmp_path):
    run(slide, tmp_path / "out", scheme, Stepwise())
    inferer, result = run(slide, tmp_path / "out", scheme, again := Stepwise())
    assert again.calls == 0
    assert sum(tissue["area_mm2"] for tissue in result["classes"].values()) == pytest.approx(0.576**2 / 4)
    inferer.finish()
    run(slide, tmp_path / "out", scheme, again := Stepwise(), overwrite=True)
    assert again.calls == 25
    (tmp_path / "out" / "s" / "overlay.png").unlink()
    run(slide, tmp_path / "out", scheme, repaired := Stepwise())
    assert repaired.calls == 25
    assert (tmp_path / "out" / "s" / "overlay.png").exists()
    # Of the polygons, which were not made again, the new summary says what the first one did.
    assert json.loads((tmp_path / "out" / "s" / "summary.json").read_text())["polygons"] == result["polygons"]


@pytest.mark.parametrize("stop_after", [None, 11])
def test_other_settings_are_refused_with_the_difference_named(slide, scheme, tmp_path, stop_after):
    first = Stepwise(stop_after)
    try:
        run(slide, tmp_path / "out", scheme, first)
    except RuntimeError:
        assert stop_after
    before = contents_of_all(tmp_path / "out")
    other = Stepwise()
    other.edges.data += 0.1
    for arguments, network, difference in (
        ({"fill": "black"}, Stepwise(), r"fill is 'white' there, 'black' now\. Choose another output folder"),
        ({"options": {"overlap": 0.5}}, Stepwise(), r"overlap is 0\.0 there, 0\.5 now"),
        (
            {"polygons": {"min_area": 900, "skip": ["stroma"]}},
            Stepwise(),
            r"polygons\.min_area is 500\.0 there, 900\.0 now; polygons\.skip\[0\] is 'background' there, 'stroma' now",
        ),
        ({}, other, r"weights is '\w{64}' there, '\w{64}' now"),
        (
            {"preprocessing": lambda data: {"image": data["image"].flip(0) / 255}},
            Stepwise(),
            r"preprocessing is '\w{64}' there",
        ),
    ):
        inferer, result = run(slide, tmp_path / "out", scheme, network, **arguments)
        assert "error" in result
        with pytest.raises(SystemExit, match=difference):
            inferer.finish()
    assert contents_of_all(tmp_path / "out") == before


def contents_of_all(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_overwriting_replaces_all_or_nothing(slide, scheme, tmp_path):
    """A run that is stopped while it replaces another's outputs leaves none that pass for that other run's."""
    other = {"fill": "black"}
    run(slide, tmp_path / "out", scheme, Stepwise())
    before = contents(tmp_path / "out" / "s")
    with pytest.raises(RuntimeError, match="out of memory"):
        run(slide, tmp_path / "out", scheme, Stepwise(stop_after=20), overwrite=True, **other)
    unfinished = tmp_path / "out" / "s" / ".unfinished"
    kept = {name: part for name, part in contents(tmp_path / "out" / "s").items() if unfinished.name not in name}
    assert kept == before
    assert unfinished.exists()
    run(slide, tmp_path / "out", scheme, rest := Stepwise(), overwrite=True, **other)
    assert rest.calls <= 6
    assert not unfinished.exists()
    _, result = run(slide, tmp_path / "out", scheme, Stepwise())
    assert "fill is 'black' there, 'white' now" in result["error"]


def test_outputs_without_their_summary_do_not_count(slide, scheme, tmp_path):
    run(slide, tmp_path / "out", scheme, Stepwise())
    expected = contents(tmp_path / "out" / "s")
    (tmp_path / "out" / "s" / "summary.json").unlink()
    (tmp_path / "out" / "s" / "prediction.tif").write_bytes(b"half")
    run(slide, tmp_path / "out", scheme, again := Stepwise())
    assert again.calls == 25
    assert contents(tmp_path / "out" / "s") == expected
    (tmp_path / "out" / "s" / "summary.json").write_text("{}")
    assert "holds the result of other settings" in run(slide, tmp_path / "out", scheme, Stepwise())[1]["error"]


def test_a_log_that_is_discarded_no_longer_counts_before_its_maps_are_removed(tmp_path):
    ProgressLog(tmp_path, {"a": 1}).begin()
    ProgressLog(tmp_path, {"a": 1}).mark_done(0, 0, 7)
    assert not ProgressLog(tmp_path, {"a": 2}, overwrite=True).resumed
    assert not ProgressLog(tmp_path, {"a": 1}).resumed


def test_a_log_without_blocks_is_replaced_by_one_of_other_settings(tmp_path):
    ProgressLog(tmp_path, {"a": 1}).begin()
    assert not ProgressLog(tmp_path, {"a": 2}).resumed


def test_networks_with_normalisation_have_a_digest_too(slide, scheme, tmp_path):
    class Normalised(Stepwise):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.BatchNorm2d(3)

    _, result = run(slide, tmp_path / "out", scheme, Normalised())
    assert len(result["settings"]["weights"]) == 64


def test_an_output_that_cannot_be_made_is_refused_before_the_work(slide, scheme, tmp_path, monkeypatch):
    monkeypatch.setattr("common.outputs.dicom._LARGEST", 1000)
    options, outputs = InferenceOptions(batch_size=4, block=2), ("prediction.dcm",)
    inferer = WholeSlideInferer([VIEW], VIEW, scheme, tmp_path / "out", outputs=outputs, options=options)
    result = inferer({"image": slide}, network := Stepwise())
    assert "576 x 576 pixels is too large for a DICOM segmentation; use prediction.tif" in result["error"]
    assert network.calls == 0


def test_a_line_that_a_kill_cut_off_does_not_count(tmp_path):
    log = ProgressLog(tmp_path, {"a": 1})
    assert log.begin() == {}
    log.mark_done(0, 128, 0)
    log.mark_done(256, 0, 0xFFFFFFFF)
    with (tmp_path / "blocks.txt").open("a") as file:
        file.write("256 1")
    log = ProgressLog(tmp_path, {"a": 1})
    assert log.begin() == {(0, 128): 0, (256, 0): 0xFFFFFFFF}
    log.mark_done(512, 0, 5)
    assert ProgressLog(tmp_path, {"a": 1}).begin() == {(0, 128): 0, (256, 0): 0xFFFFFFFF, (512, 0): 5}
    with pytest.raises(SettingsError, match=r"a is 1 there, 2 now; b\[0\] is not set there, 7 now"):
        ProgressLog(tmp_path, {"a": 2, "b": [7]})


def test_another_process_in_the_same_folder_is_kept_out(slide, scheme, tmp_path):
    class Nosy(Stepwise):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            if self.calls == 3:
                self.found = run(slide, tmp_path / "out", scheme, Stepwise())[1]
            return super().forward(image)

    run(slide, tmp_path / "out", scheme, nosy := Nosy())
    assert "another process is at work here" in nosy.found["error"]


def test_a_slide_that_cannot_be_read_leaves_no_outputs(scheme, tmp_path):
    path = write_pyramid(tmp_path / "s.tif", [ramp(48, 48).repeat(12, 0).repeat(12, 1)], (0.5, 0.5))
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[-1]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(40))
    assert "error" in run(str(path), tmp_path / "out", scheme, Stepwise())[1]
    assert [path.name for path in (tmp_path / "out" / "s").iterdir()] == [".unfinished"]


@pytest.mark.all
def test_killed_at_twenty_random_moments_the_outputs_are_those_of_an_undisturbed_run(slide, scheme, tmp_path):
    run(slide, tmp_path / "whole", scheme, Stepwise())
    command = [sys.executable, "-m", "tests.inference.test_resume", slide, str(tmp_path / "killed")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    started = time.monotonic()
    subprocess.run([*command, "0.1"], env=environment, check=True)
    seconds = time.monotonic() - started
    expected = contents(tmp_path / "whole" / "s")
    assert contents(tmp_path / "killed" / "s") == expected
    rng = random.Random(0)
    killed = 0
    while killed < 20:
        if (tmp_path / "killed" / "s" / "summary.json").exists():
            (tmp_path / "killed" / "s" / "summary.json").unlink()
        process = subprocess.Popen([*command, "0.1"], env=environment)
        try:
            process.wait(rng.uniform(0.3, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
    subprocess.run([*command, "0"], env=environment, check=True)
    assert contents(tmp_path / "killed" / "s") == expected
    assert np.any(tifffile.imread(tmp_path / "killed" / "s" / "prediction.tif"))


if __name__ == "__main__":
    from common.phantom import BREAST

    run(sys.argv[1], Path(sys.argv[2]), BREAST.scheme, Stepwise(seconds=float(sys.argv[3])))
