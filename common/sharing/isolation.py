"""Run a bundle in a process of its own, where this project cannot be imported, and within limits if asked."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_ISOLATED = Path(__file__).with_name("isolated.py")
# Environment variable that isolated.py reads its limits from.
_VARIABLE = "MULTIMAG_TRIAL_LIMITS"
# Bytes that are kept of the end of a process's output.
_KEPT_BYTES = 2**20
_NO_MEMORY = re.compile(r"MemoryError|allocate memory|bad_alloc|out of memory", re.IGNORECASE)


@dataclass(frozen=True)
class TrialLimits:
    """Limits on a trial run of somebody else's bundle.

    This is no sandbox: the code has the rights of the account that runs it.

    Attributes:
        seconds: time of each step, after which it is stopped with all processes that it started.
        memory: bytes of memory of each process (on Linux; a GPU's memory is not limited).
        file: bytes of each file that is written.
    """

    seconds: float = 1200.0
    memory: int = 16 * 2**30
    file: int = 4 * 2**30

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.memory <= 0 or self.file <= 0:
            raise ValueError("limits of a trial run must be above zero")


def run_isolated(*arguments: str, folder: Path | None = None, limits: TrialLimits | None = None) -> str:
    """Run ``isolated.py`` in another folder, where this project cannot be imported, and return its output.

    Args:
        arguments: arguments of ``isolated.py``.
        folder: folder to run it in; a temporary one by default.
        limits: limits on time and memory; none by default.

    Raises:
        ValueError: the run failed, or was stopped at a limit; the message has the reason.
    """
    with tempfile.TemporaryDirectory(prefix="multimag-") as elsewhere:
        out, err = Path(elsewhere) / "stdout", Path(elsewhere) / "stderr"
        with out.open("wb") as to, err.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, str(_ISOLATED), *arguments],
                cwd=folder or elsewhere,
                env=_environment(elsewhere, limits),
                stdin=subprocess.DEVNULL,
                stdout=to,
                stderr=errors,
                start_new_session=True,
            )
            code = _waited(process, limits)
        printed, complained = _end_of(out), _end_of(err)
    if limits is not None and code is None:
        raise ValueError(
            f"stopped after {limits.seconds:g} s, the limit of each step of the trial run. See what it waits for, or "
            "raise the limit: --trial_minutes"
        )
    if code:
        raise ValueError(_reasons(complained or printed) + _hint(complained, code, limits))
    return printed


def _environment(elsewhere: str, limits: TrialLimits | None) -> dict[str, str]:
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", _VARIABLE)}
    # Scripting numbers its types in the order of sets, which this fixes.
    env["PYTHONHASHSEED"] = "0"
    # Compiled files that lie in the bundle are neither read nor run.
    env["PYTHONPYCACHEPREFIX"] = f"{elsewhere}/compiled"
    if limits is not None:
        env[_VARIABLE] = f"{limits.memory} {limits.file}"
    return env


def _waited(process: subprocess.Popen[bytes], limits: TrialLimits | None) -> int | None:
    """Return the exit code, or None for a process that took too long. None of its child processes outlives it."""
    try:
        return process.wait(None if limits is None else limits.seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        # If all of its processes have ended, the group is gone.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _end_of(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _KEPT_BYTES))
        return file.read().decode("utf-8", "replace")


def _hint(printed: str, code: int, limits: TrialLimits | None) -> str:
    if limits is None:
        return ""
    if _NO_MEMORY.search(printed) or code == -signal.SIGKILL:
        return (
            f"\nMemory of the trial run is limited to {limits.memory / 2**30:g} GiB a process: give more with "
            "--trial_memory_gb"
        )
    return ""


def _reasons(printed: str) -> str:
    """Return the messages of a chain of tracebacks, the first cause first; if there are none, the last lines."""
    lines = printed.strip().splitlines()
    messages = [line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception|Interrupt|Exit)\b", line)]
    return "\n".join(dict.fromkeys(messages) or lines[-8:]) or "it ended without a message"
