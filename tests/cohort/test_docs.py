"""The scripts of the docs run."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest
import yaml

from common.bundle.find import find_bundle
from common.phantom import write_phantom
from tests.cohort.test_run import rows
from tests.conftest import DMMN, REPOSITORY

COHORTS = REPOSITORY / "docs" / "cohorts"

# Runs on this machine instead of a node.
_SRUN = '#!/usr/bin/env bash\nwhile [[ $1 == -* ]]; do shift; done\nexec "$@"\n'
_SCONTROL = "#!/usr/bin/env bash\nprintf '%s\\n' node1 node2\n"


def test_the_kubernetes_job_asks_for_what_the_command_and_the_image_have():
    job = yaml.safe_load((COHORTS / "kuberay.yaml").read_text())
    cluster = job["spec"]["rayClusterSpec"]
    command = job["spec"]["entrypoint"].split()
    given = dict(zip(command[2::2], command[3::2], strict=True))
    (group,) = cluster["workerGroupSpecs"]
    (worker,) = group["template"]["spec"]["containers"]
    assert command[:2] == ["multimag", "cohort"]
    assert int(given["--workers"]) == group["replicas"] * int(worker["resources"]["requests"]["nvidia.com/gpu"])
    assert given["--cpus"] == worker["resources"]["requests"]["cpu"]
    assert given["--cache"] in [mount["mountPath"] for mount in worker["volumeMounts"]]
    assert f"ray[default]=={cluster['rayVersion']}" in (COHORTS / "Dockerfile").read_text()
    assert find_bundle(given["--bundle"]) == DMMN


@pytest.mark.all
def test_the_slurm_script_runs_a_cohort_on_two_nodes(tmp_path):
    for name, content in (("srun", _SRUN), ("scontrol", _SCONTROL)):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(content)
        (tmp_path / "bin" / name).chmod(0o755)
    for number in range(4):
        write_phantom(tmp_path / "slides", f"s{number}", 60 + number, (768, 768), mpp=1.0)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{REPOSITORY / '.venv' / 'bin'}:{os.environ['PATH']}",
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_CPUS_PER_TASK": "1",
        "RAY_PORT": str(port),
        "BUNDLE": str(DMMN),
        "SLIDES": str(tmp_path / "slides" / "s?.tif"),
        "OUTPUT": str(tmp_path / "out"),
        "CACHE": str(tmp_path / "cache"),
    }
    script = ["bash", str(COHORTS / "slurm_cohort.sh"), "--config", "demo.yaml"]
    result = subprocess.run(script, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "4 segmented" in result.stdout
    assert "2 workers" in result.stderr
    assert {row["status"] for row in rows(tmp_path / "out").values()} == {"segmented"}
