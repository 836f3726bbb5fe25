"""Run the commands of users, for the tests."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

from monai.bundle import run

from common.__main__ import main


def configs_of(bundle: Path, *names: str) -> list[str]:
    """Paths of a bundle's configs."""
    return [str(bundle / "configs" / name) for name in names]


def run_bundle(bundle: Path, folder: Path, *configs: str, **overrides: Any) -> None:
    """A run of a bundle in ``folder``, results in its ``out``, as by its command, but in this process: most of a
    command's time is imports."""
    given = {"output_dir": folder / "out", **overrides}
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    with contextlib.chdir(folder):
        run(config_file=configs_of(bundle, *configs), bundle_root=str(bundle), **plain)


def run_bundle_command(
    bundle: Path, folder: Path, *configs: str, check: bool = True, processes: int = 0, **overrides: object
) -> subprocess.CompletedProcess:
    """``python -m monai.bundle run`` in ``folder``, results in its ``out``; by torchrun for several processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes else []
    files = str(configs_of(bundle, *configs))
    command = [sys.executable, *launcher, "-m", "monai.bundle", "run", "--config_file", files]
    command += ["--bundle_root", str(bundle), "--logging_file", str(bundle / "configs" / "logging.conf")]
    for key, value in {"output_dir": folder / "out", **overrides}.items():
        command += [f"--{key}", str(value)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, timeout=500)
    if check:
        assert result.returncode == 0, result.stderr[-3000:]
    return result


def run_common(*arguments: object, check: bool = True) -> str:
    """Run ``python -m common`` in this process, and return what it prints."""
    printed = io.StringIO()
    with patch.object(sys, "argv", ["common", *map(str, arguments)]), contextlib.redirect_stdout(printed):
        try:
            main()
        except SystemExit as leaving:
            if check and leaving.code:
                raise
    return printed.getvalue()
