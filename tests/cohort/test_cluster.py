"""A cohort on a Ray cluster, and slides and outputs in a bucket."""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from common.phantom import write_phantom
from tests.cohort.test_run import command, rows
from tests.inference.test_resume import contents

pytestmark = pytest.mark.all
ray = pytest.importorskip("ray")
_NAMES = [f"s{number:02}" for number in range(24)]


@pytest.fixture(scope="module")
def slides(tmp_path_factory) -> Path:
    """24 slides, one of them several times as large as the others."""
    folder = tmp_path_factory.mktemp("slides")
    for number, name in enumerate(_NAMES):
        size = 3072 if number == 7 else 768
        write_phantom(folder, name, 200 + number, (size, size), mpp=1.0)
    return folder


@pytest.fixture(scope="module")
def on_one_machine(slides, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("one_machine")
    finish(subprocess.Popen(command(slides / "s??.tif", folder / "out", folder / "cache", "--cpus", 1)))
    return folder / "out"


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Three machines, each with one processor."""
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    for _ in range(2):
        found.add_node(num_cpus=1)
    yield found
    found.shutdown()


def finish(process: subprocess.Popen) -> str:
    said, _ = process.communicate(timeout=500)
    assert process.returncode == 0, said
    return said or ""


def records(out: Path) -> int:
    return len(list(out.glob(".cohort/slides/*.json")))


def test_a_cluster_that_loses_a_node_midway_finishes_every_slide_as_one_machine_does(
    slides, on_one_machine, cluster, tmp_path
):
    out = tmp_path / "out"
    on_ray = ("--ray", cluster.address, "--split_mb", 0)
    process = subprocess.Popen(
        command(slides / "s??.tif", out, tmp_path / "cache", *on_ray), stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 240
    while records(out) < 6:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    assert records(out) < 20
    cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
    said = finish(process)
    assert "24 segmented" in said
    assert [path.name for path in sorted(out.glob("s*"))] == _NAMES
    for name in _NAMES:
        assert contents(out / name) == contents(on_one_machine / name)
    table = rows(out)
    assert Counter(row["status"] for row in table.values()) == {"segmented": 24}
    # Every slide has one record, whose files are the ones that are there.
    assert records(out) == 24
    for line in (out / "manifest.sha256").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    assert not list(out.rglob(".partial-*"))
    assert not list(out.glob(".cohort/parts/*/*"))


def test_a_slide_larger_than_a_workers_share_is_split_and_comes_out_the_same(slides, on_one_machine, cluster, tmp_path):
    out, on_ray = tmp_path / "out", ("--ray", cluster.address, "--split_mb", 0)
    names = f"{slides}/s07.tif"
    process = subprocess.Popen(command(names, out, tmp_path / "cache", *on_ray), stdout=subprocess.PIPE, text=True)
    parts: set[str] = set()
    while process.poll() is None:
        parts |= {path.name for path in out.glob(".cohort/parts/s07/*.zip")}
        time.sleep(0.01)
    finish(process)
    assert {name.partition("-")[2] for name in parts} == {f"{number}-of-6.zip" for number in range(6)}
    assert contents(out / "s07") == contents(on_one_machine / "s07")
    assert not list(out.glob(".cohort/parts/*/*"))


def test_slides_and_outputs_in_a_bucket(slides, on_one_machine, bucket, s3_server, tmp_path):
    """The server fails for a while in between, one slide is missing, and the cache has room for a few."""
    files = fsspec.filesystem("s3", use_listings_cache=False)
    for name in _NAMES[:12]:
        files.put_file(str(slides / f"{name}.tif"), f"{bucket}/slides/{name}.tif")
    listed = "\n".join(["image", *(f"slides/{name}.tif" for name in _NAMES[:12]), "slides/gone.tif"])
    files.pipe_file(f"{bucket}/list.csv", listed.encode())
    limit = max((slides / f"{name}.tif").stat().st_size for name in _NAMES[:12]) + 300_000
    given = command(f"{bucket}/list.csv", f"{bucket}/out", tmp_path / "cache", "--cpus", 1, "--cache_gb", limit / 1e9)
    before = len(s3_server.served)
    with (tmp_path / "said.txt").open("w") as out, (tmp_path / "warned.txt").open("w") as err:
        process = subprocess.Popen(given, stdout=out, stderr=err)
    largest, failed, deadline = 0, False, time.monotonic() + 600
    while process.poll() is None:
        assert time.monotonic() < deadline
        largest = max(largest, sum(size(path) for path in (tmp_path / "cache" / "slides").rglob("*")))
        recorded = [
            path for method, path in s3_server.served[before:] if "/.cohort/slides/" in path and method == "PUT"
        ]
        if not failed and len(recorded) >= 3:
            s3_server.fail_next(20)
            failed = True
        time.sleep(0.01)
    said, warned = ((tmp_path / name).read_text() for name in ("said.txt", "warned.txt"))
    assert process.returncode == 1, warned
    assert "12 segmented, 1 failed" in said
    assert f"gone: {bucket}/slides/gone.tif: no such file" in " ".join(warned.split())
    assert failed
    assert 0.5 * limit < largest <= limit
    files.get(f"{bucket}/out", str(tmp_path / "got"), recursive=True)
    for name in _NAMES[:12]:
        found = contents(tmp_path / "got" / name)
        wanted = contents(on_one_machine / name)
        assert {path: found[path] for path in found if path != "summary.json"} == {
            path: wanted[path] for path in wanted if path != "summary.json"
        }
    # Nothing waits for its upload, and the same command finds nothing to do.
    assert not [path for path in (tmp_path / "cache" / "outputs").rglob("*") if path.is_file()]
    served = len(s3_server.served)
    result = subprocess.run(given, capture_output=True, text=True, check=False, timeout=200)
    assert "12 segmented before, 1 failed" in result.stdout
    assert not [path for method, path in s3_server.served[served:] if method == "GET" and path.endswith(".tif")]


def size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:
        return 0
