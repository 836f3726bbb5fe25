"""A cohort on one machine, as its command runs it."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from common.phantom import write_phantom
from tests.bundles.commands import run_bundle
from tests.conftest import DMMN
from tests.inference.test_resume import contents

_OUTPUTS = ["prediction.tif", "prediction.geojson", "summary.json"]


@pytest.fixture(scope="module")
def slides(tmp_path_factory) -> Path:
    """Three slides, a damaged one, and a table that also names a missing one."""
    folder = tmp_path_factory.mktemp("slides")
    for number in range(3):
        write_phantom(folder, f"s{number}", 60 + number, (1024, 1024), mpp=1.0)
    (folder / "damaged.tif").write_bytes((folder / "s0.tif").read_bytes()[:20_000])
    names = ["s0", "s1", "s2", "damaged", "absent"]
    (folder / "cohort.csv").write_text("\n".join(["image", *(f"{name}.tif" for name in names)]))
    return folder


@pytest.fixture(scope="module")
def at_once(slides, tmp_path_factory) -> Path:
    """The same slides segmented by inference.yaml, in this process."""
    folder = tmp_path_factory.mktemp("at_once")
    names = [str(slides / f"s{number}.tif") for number in range(3)]
    run_bundle(DMMN, folder, "inference.yaml", "demo.yaml", slides=names, outputs=_OUTPUTS)
    return folder / "out"


def command(slides: Path, out: str | Path, cache: Path, *more: object) -> list[str]:
    given: list[Any] = ["cohort", "--bundle", DMMN, "--slides", slides, "--output", out, "--config", "demo.yaml"]
    given += ["--cache", cache, "--outputs", str(_OUTPUTS), *more]
    return [sys.executable, "-m", "common", *map(str, given)]


def run(*arguments: Any) -> subprocess.CompletedProcess:
    return subprocess.run(command(*arguments), capture_output=True, text=True, check=False, timeout=300)


def rows(out: Path) -> dict[str, dict[str, str]]:
    with (out / "cohort.csv").open() as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def other_settings(kept: Path, name: str, changes: dict[str, Any]) -> None:
    """Change a slide's record as if its outputs had been made with other settings."""
    (path,) = (kept / "settings").glob("*.json")
    (kept / "settings" / "other.json").write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    record = json.loads((kept / "slides" / f"{name}.json").read_text())
    (kept / "slides" / f"{name}.json").write_text(json.dumps({**record, "settings": "other"}))


def as_the_previous_version_wrote_it(path: Path) -> dict[str, Any]:
    """Rewrite a record with the former name of the download."""
    record = json.loads(path.read_text())
    assert record["seconds"].pop("download") >= 0
    record["seconds"]["staging"] = 7.5
    path.write_text(json.dumps(record))
    return record


def test_a_cohort_is_segmented_once_and_what_failed_is_listed(slides, at_once, tmp_path):
    out = tmp_path / "out"
    result = run(slides / "cohort.csv", out, tmp_path / "cache")
    assert result.returncode == 1, result.stderr
    assert "3 segmented, 2 failed" in result.stdout
    said = " ".join(result.stderr.split())
    assert "2 of 5 slides could not be segmented:" in said
    assert f"absent: {slides}/absent.tif: no such file. Check the path" in said
    assert "slides/h" in said
    table = rows(out)
    assert {name: row["status"] for name, row in table.items()} == {
        **dict.fromkeys(("s0", "s1", "s2"), "segmented"),
        **dict.fromkeys(("damaged", "absent"), "failed"),
    }
    assert f"{slides}/damaged.tif" in table["damaged"]["reason"]
    assert table["damaged"]["tries"] == "1"
    assert not (out / "damaged" / "prediction.tif").exists()
    for name in ("s0", "s1", "s2"):
        assert contents(out / name) == contents(at_once / name)
    # The checksums name every file that was made, and no other.
    sums = dict(reversed(line.split("  ")) for line in (out / "manifest.sha256").read_text().splitlines())
    assert sums == {
        f"{name}/{file}": hashlib.sha256((out / name / file).read_bytes()).hexdigest()
        for name in ("s0", "s1", "s2")
        for file in _OUTPUTS
    }

    # Only lost outputs are made again, and results of other settings do not pass for those asked for.
    earlier = as_the_previous_version_wrote_it(out / ".cohort" / "slides" / "s0.json")
    written = {path: path.stat().st_mtime_ns for path in out.glob("s?/*")}
    (out / "s1" / "prediction.geojson").unlink()
    other_settings(out / ".cohort", "s2", {"context": "shared"})
    result = run(slides / "cohort.csv", out, tmp_path / "cache")
    assert "1 segmented, 1 segmented before, 3 failed" in result.stdout
    assert rows(out)["s0"]["finished"] == earlier["finished"]
    assert rows(out)["s0"]["download"] == "7.5"
    assert contents(out / "s1") == contents(at_once / "s1")
    again = {path: path.stat().st_mtime_ns for path in out.glob("s?/*")}
    assert {path.parent.name for path in written if written[path] != again[path]} == {"s1"}
    assert f"{out}/s2 holds the result of other settings: context is 'shared' there" in rows(out)["s2"]["reason"]


@pytest.mark.all
@pytest.mark.parametrize(("protocol", "tries"), [("", ["1", "1", "2"]), ("local://", ["1", "2", "2"])])
def test_a_killed_worker_is_replaced_and_its_slide_comes_out_the_same(slides, at_once, tmp_path, protocol, tries):
    """With a store it had downloaded the next slide, too."""
    out, cache = tmp_path / "out", tmp_path / "cache"
    process = subprocess.Popen(command(slides / "s?.tif", f"{protocol}{out}", cache), stderr=subprocess.PIPE, text=True)
    working = cache / "outputs" if protocol else tmp_path
    deadline = time.monotonic() + 600
    while not (begun := list(working.glob("*/s?/.unfinished/blocks.txt"))):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    workers = [child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    assert len(workers) == 1
    workers[0].kill()
    killed = begun[0].parents[1].name
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said
    for name in ("s0", "s1", "s2"):
        assert contents(out / name) == contents(at_once / name)
    assert sorted(row["tries"] for row in rows(out).values()) == tries
    assert rows(out)[killed]["tries"] == "2"
    (line,) = [line for line in said.splitlines() if "worker 0 ended" in line]
    assert re.search(
        rf"worker 0 ended with signal 9 \(SIGKILL\), as when memory runs out while it had .*{killed}", line
    )


@pytest.mark.all
def test_workers_end_with_the_command(slides, tmp_path):
    process = subprocess.Popen(
        command(slides / "s?.tif", tmp_path / "out", tmp_path / "cache"), stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 600
    while not (tmp_path / "out" / ".cohort" / "settings").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive


@pytest.mark.all
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_cohort_that_a_signal_ends_resumes_without_losing_or_repeating_a_slide(slides, at_once, tmp_path, number):
    out = tmp_path / "out"
    given = command(slides / "s?.tif", out, tmp_path / "cache")
    process = subprocess.Popen(given, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 600
    while not (list(out.glob(".cohort/slides/s?.json")) and list(out.glob("s?/.unfinished/blocks.txt"))):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number), said
    assert "Traceback" not in said
    if number != signal.SIGKILL:
        assert said.splitlines()[-1].endswith("Finished slides, blocks and epochs are kept: the same command resumes")
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive
    finished = {path.stem for path in out.glob(".cohort/slides/s?.json")}
    written = {path: path.stat().st_mtime_ns for name in finished for path in (out / name).iterdir()}

    result = run(slides / "s?.tif", out, tmp_path / "cache")
    assert result.returncode == 0, result.stderr
    assert f"{3 - len(finished)} segmented, {len(finished)} segmented before" in result.stdout
    assert {path: path.stat().st_mtime_ns for path in written} == written
    for name in ("s0", "s1", "s2"):
        assert contents(out / name) == contents(at_once / name)
    before = {name for name, row in rows(out).items() if row["status"] == "segmented before"}
    assert (before, set(rows(out))) == (finished, {"s0", "s1", "s2"})


@pytest.mark.all
def test_a_bundle_that_is_not_there_or_has_no_weights_is_one_line(slides, tmp_path):
    given = command(slides / "s0.tif", tmp_path / "out", tmp_path / "cache", "--checkpoint", tmp_path / "absent.pt")
    result = subprocess.run(given, capture_output=True, text=True, check=False, timeout=600)
    assert result.returncode == 2
    assert "absent.pt" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert not list((tmp_path / "out").glob("s0"))
    given = command(slides / "s0.tif", tmp_path / "out", tmp_path / "cache", "--overlp", 0.5)
    result = subprocess.run(given, capture_output=True, text=True, check=False, timeout=600)
    assert result.returncode == 2
    assert "no key 'overlp'. Did you mean overlap?" in result.stderr.splitlines()[-1]
