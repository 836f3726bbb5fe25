"""Trainings that are stopped, and trainings of several processes and machines, end as one that is neither."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from monai.bundle import ConfigParser

from common.files import sha256
from common.networks.checkpoint_metadata import metadata_path
from common.training.resume import ResumeCheckpoint
from tests.bundles.commands import configs_of, run_bundle
from tests.bundles.test_da_refinenet import SMALL as DUAL
from tests.conftest import DA_REFINENET, DMMN, ENCDEC, MRN, MULTILEVEL

_STEPS = {"val_interval": 1, "num_workers": 0, "dtype": "float32"}
# Trainings of a few steps on phantoms.
_TRAININGS: dict[Path, dict[str, Any]] = {
    DMMN: {
        "datalist": "datalist.json",
        "network_def#channels": [4, 6, 8, 10, 12],
        "allow_missing": ["carcinoma", "benign epithelial", "necrotic"],
        "sampler#cycle": ["stroma", "background"],
        "branch_init_weights": {},
    },
    MRN: {"datalist": "two_classes.json", "channels": [4, 4, 4, 4, 4]},
    ENCDEC: {
        "datalist": "biopsies.json",
        "channels": [2, 2, 2, 2],
        "variant": "model",
        "allow_missing": [
            *("benign epithelium", "malignant epithelium", "desmoplastic stroma", "secretion", "blood", "necrosis"),
        ],
    },
    DA_REFINENET: {
        "datalist": "grades.json",
        **DUAL,
        "allow_missing": ["in situ", "invasive"],
        # With dropout, what random numbers the loader draws for its workers must not matter.
        "num_workers": 2,
        "seed": 20261122,
    },
    MULTILEVEL: {
        "datalist": "tissues.json",
        "encoder": "efficientnet-b0",
        "decoder_channels": [4, 4, 4, 4, 4],
        "merged_channels": 8,
        "size": 64,
        "fine_mpp": 1.0,
        "batch_classes": ["normal"],
        # Of a batch's only class the dynamic weight is 0.
        "class_weights": [1.0, 1.0, 1.0],
        "min_labelled": 0.01,
        "allow_missing": ["tumour", "others"],
    },
}


def training_of(bundle: Path, phantoms: Path, **more: Any) -> dict[str, Any]:
    given = {**_STEPS, **_TRAININGS[bundle], **more}
    return {**given, "datalist": phantoms / given["datalist"]}


def same(one: Any, other: Any, tolerance: float = 0.0) -> bool:
    """Return whether two nested states are equal, tensors to a share of their largest value."""
    if isinstance(one, torch.Tensor):
        return (
            (one - other).abs().max().item() <= tolerance * max(1e-6, other.abs().max().item()) if one.numel() else True
        )
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key], tolerance) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b, tolerance) for a, b in zip(one, other, strict=True))
    return one == pytest.approx(other, rel=tolerance) if tolerance and isinstance(one, float) else one == other


def causes(error: BaseException | None) -> str:
    """Return the messages of an error and of its causes."""
    return "" if error is None else f"{error}\n{causes(error.__cause__)}"


def state(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


_others = [pytest.param(bundle, marks=pytest.mark.all, id=bundle.name) for bundle in _TRAININGS if bundle != DMMN]


@pytest.mark.parametrize("bundle", [pytest.param(DMMN, id=DMMN.name), *_others])
def test_a_stopped_training_goes_on_and_ends_as_if_it_had_not_been(bundle, phantoms, tmp_path, monkeypatch):
    given = training_of(bundle, phantoms, batch_size=2, samples_per_epoch=4, cache_dir=tmp_path / "cache")

    def train(name: str, **more: Any) -> None:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        kept = {"resume": folder / "restart.pt", "checkpoint_dir": folder, "epochs": 3}
        run_bundle(bundle, folder, "train.yaml", "small.yaml", **{**given, **kept, **more})

    reseed = ResumeCheckpoint._reseed

    def stopping(self: ResumeCheckpoint, engine: Any) -> None:
        if engine.state.epoch == 2:
            raise RuntimeError("the power failed")
        reseed(self, engine)

    train("whole")
    monkeypatch.setattr(ResumeCheckpoint, "_reseed", stopping)
    with pytest.raises(RuntimeError) as failure:
        train("stopped")
    monkeypatch.undo()
    assert "the power failed" in causes(failure.value)
    early = state(tmp_path / "stopped" / "restart.pt")
    train("stopped")
    ended, whole = (state(tmp_path / name / "restart.pt") for name in ("stopped", "whole"))
    assert (early["epoch"], ended["epoch"]) == (1, 3)
    assert same(ended, whole)
    assert not same(early["network"], whole["network"])
    models = [
        next(path for path in (tmp_path / name).glob("*.pt") if path.name != "restart.pt")
        for name in ("whole", "stopped")
    ]
    assert same(*map(state, models))
    described = [json.loads(metadata_path(path).read_text()) for path in models]
    assert described[0] == described[1]
    assert described[0]["sha256"] == sha256(models[0])
    assert described[0]["synthetic"] is True
    # Finished, it has nothing more to do, and of another training it is not the beginning.
    train("stopped")
    assert same(state(tmp_path / "stopped" / "restart.pt"), whole)
    if bundle == DMMN:
        with pytest.raises(RuntimeError) as failure:
            train("stopped", seed=1)
        said = causes(failure.value)
        assert "restart.pt is of another training: " in said
        assert "seed is 0 there, 1 now" in said
        assert "Move it away to start over" in said


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


_LAUNCHED: list[subprocess.Popen] = []


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    yield
    for process in _LAUNCHED:
        if process.poll() is None:
            for one in (*psutil.Process(process.pid).children(recursive=True), process):
                one.kill()
            process.wait()
    _LAUNCHED.clear()


def launch(bundle: Path, folder: Path, nodes: int, processes: int, **given: Any) -> list[subprocess.Popen]:
    """As on several machines: torchrun once for each."""
    folder.mkdir(exist_ok=True)
    configs = str(configs_of(bundle, "train.yaml", "small.yaml", "multi_gpu_train.yaml"))
    launcher = [f"--nnodes={nodes}", f"--nproc_per_node={processes}", "--max-restarts=3", "--rdzv_backend=c10d"]
    command = [sys.executable, "-m", "torch.distributed.run", *launcher, f"--rdzv_endpoint=127.0.0.1:{free_port()}"]
    command += ["-m", "monai.bundle", "run", "--config_file", configs, "--bundle_root", str(bundle)]
    for key, value in {"output_dir": folder / "out", "checkpoint_dir": folder, **given}.items():
        command += [f"--{key}", str(value)]
    # Else torchrun may look for processes where they were before it restarted them, and wait there for good.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    log = (folder / "log.txt").open("a")
    launched = [
        subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        for _ in range(nodes)
    ]
    _LAUNCHED.extend(launched)
    return launched


def finish(launched: list[subprocess.Popen], folder: Path) -> None:
    for process in launched:
        process.wait(timeout=900)
    assert [process.returncode for process in launched] == [0] * len(launched), (folder / "log.txt").read_text()[-3000:]


def restart_file(folder: Path) -> Path:
    return next(folder.glob("restart_*.pt"))


@pytest.mark.all
def test_two_machines_train_as_one_process_and_go_on_when_one_of_theirs_is_killed(phantoms, tmp_path):
    given = training_of(DMMN, phantoms, samples_per_epoch=8, epochs=4, cache_dir=tmp_path / "cache")
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    finish(launch(DMMN, undisturbed, 2, 1, batch_size=2, **given), undisturbed)
    launched = launch(DMMN, killed, 2, 1, batch_size=2, **given)
    deadline = time.monotonic() + 600
    while not list(killed.glob("restart_*.pt")):
        assert time.monotonic() < deadline, (killed / "log.txt").read_text()[-3000:]
        time.sleep(0.02)
    trainer = [child for one in launched for child in psutil.Process(one.pid).children()]
    victim = next(child for child in trainer if child.environ().get("RANK") == "1")
    victim.kill()
    finish(launched, killed)
    assert "resuming after epoch" in (killed / "log.txt").read_text()
    ended, wanted = state(restart_file(killed)), state(restart_file(undisturbed))
    assert ended["epoch"] == 4
    assert same(ended, wanted)
    # And both as one process with twice the batch.
    alone = tmp_path / "alone"
    finish(launch(DMMN, alone, 1, 1, batch_size=4, **given), alone)
    # Sums in another order round otherwise.
    torch.testing.assert_close(state(restart_file(alone))["network"], wanted["network"], rtol=1e-3, atol=1e-5)


def lived_in(bundle: Path, given: dict[str, Any], path: Path) -> Path:
    """A network whose batch normalisation has seen something: of one that has not, frozen, the outputs explode."""
    parser = ConfigParser(ConfigParser.load_config_files(configs_of(bundle, "train.yaml", "small.yaml")))
    parser.update({key: value for key, value in given.items() if key != "datalist"})
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def").train()
    channels = 3 * len(parser.get_parsed_content("fields_of_view"))
    size = parser.get_parsed_content("fields_of_view")[0]["size"]
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # a plain mean
    with torch.no_grad():
        for _ in range(4):
            network(torch.rand(4, channels, size, size))
    torch.save(network.state_dict(), path)
    return path


@pytest.mark.all
@pytest.mark.parametrize("bundle", [pytest.param(b, id=b.name) for b in (MRN, ENCDEC)])
def test_with_frozen_batch_normalisation_processes_train_as_one(bundle, phantoms, tmp_path):
    """On a CPU; on GPUs SyncBatchNorm makes it so without freezing."""
    given = training_of(bundle, phantoms, samples_per_epoch=8, epochs=2, cache_dir=tmp_path / "cache")
    given["init_weights"] = lived_in(bundle, given, tmp_path / "start.pt")
    begun, ended = state(given["init_weights"]), {}
    for processes, frozen in ((1, True), (2, True), (2, False)):
        folder = tmp_path / f"{processes}_{frozen}"
        more = {**given, "batch_size": 4 // processes, "frozen_batch_norm": frozen}
        finish(launch(bundle, folder, 1, processes, **more), folder)
        ended[processes, frozen] = state(restart_file(folder))["network"]
    learnt = [name for name in begun if not same(begun[name], ended[1, True][name])]
    assert learnt
    assert not [name for name in learnt if "running" in name]
    distance = {
        key: max((found[name] - ended[1, True][name]).abs().max() for name in learnt) for key, found in ended.items()
    }
    moved = max((begun[name] - ended[1, True][name]).abs().max() for name in learnt)
    # Sums in another order round otherwise.
    assert distance[2, True] < 3e-3 * moved
    assert distance[2, False] > 1e-2 * moved


@pytest.mark.all
@pytest.mark.parametrize("bundle", [pytest.param(b, id=b.name) for b in (DA_REFINENET, MULTILEVEL)])
def test_networks_that_drop_at_random_train_in_two_processes_with_batch_normalisation_frozen(
    bundle, phantoms, tmp_path
):
    """Each process draws its own dropout: only what is frozen can be told."""
    given = training_of(bundle, phantoms, samples_per_epoch=4, epochs=1, cache_dir=tmp_path / "cache")
    given["init_weights"] = lived_in(bundle, given, tmp_path / "start.pt")
    finish(launch(bundle, tmp_path / "two", 1, 2, batch_size=2, frozen_batch_norm=True, **given), tmp_path / "two")
    begun, ended = state(given["init_weights"]), state(restart_file(tmp_path / "two"))["network"]
    changed = {name for name in begun if not same(begun[name], ended[name])}
    assert changed
    assert not [name for name in changed if "running" in name]
