"""Run each step in a process of its own, with a time limit."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess

from tests.gpu.kit import Kit
from tests.gpu.sight import gpu_in_sight

# Loaded once; every step's process starts as a copy of one that has loaded them.
_LOADED = [
    *("monai.bundle", "monai.engines", "monai.handlers", "monai.transforms", "ignite.handlers"),
    *("common.data", "common.training", "common.inference", "common.losses", "common.networks", "common.phantom"),
    *("common.training", "common.training.checkpoint_metadata", "common.transforms", "torch.profiler"),
]
# The longest that loading may take.
_LOADING_S = 120


def load_ahead() -> BaseContext:
    """Load what the steps import, and return the context to start their processes with.

    Processes are forked from one that has loaded everything. A library that touches the GPU on import would make them
    unable to use it; then each is started from scratch, which takes seconds more.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LOADED)
    probe = context.Process(target=_use_gpu if gpu_in_sight() else _do_nothing)
    try:
        probe.start()
        probe.join(_LOADING_S)
    except (EOFError, OSError) as error:
        print(f"cannot load ahead: {error}", flush=True)
        return multiprocessing.get_context("spawn")
    if probe.is_alive():
        probe.kill()
    return context if probe.exitcode == 0 else multiprocessing.get_context("spawn")


def method_within(context: BaseContext) -> str:
    """Return the start method for processes of a step's own: forked, it has loaded everything already."""
    return "fork" if context.get_start_method() == "forkserver" else "spawn"


def run_in_process(context: BaseContext, function: str, kit: Kit, seconds: float) -> str:
    """Run a step and return its outcome: ``"done"``, or what went wrong.

    Args:
        context: from :func:`load_ahead`.
        function: ``module:function``, called with ``kit``.
        kit: what it works with.
        seconds: its limit. The process and all that it started are killed then, or when this process is interrupted.
    """
    process = context.Process(target=_run, args=(function, kit, os.getpid()), name=kit.step)  # type: ignore[attr-defined]
    process.start()
    try:
        process.join(seconds)
        late = process.is_alive()
    finally:
        _kill_group(process)
    if late:
        return f"stopped after {seconds:.0f} s"
    if process.exitcode == 0:
        return "done"
    assert process.exitcode is not None
    return "failed" if process.exitcode > 0 else f"failed: {signal.Signals(-process.exitcode).name}"


def _kill_group(process: BaseProcess) -> None:
    """Kill a process and all that it has started: workers of a data loader, say, outlive a crash."""
    assert process.pid is not None
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    # A process that hangs in the driver may never end.
    process.join(10)


def _run(function: str, kit: Kit, parent: int) -> None:
    os.setpgid(0, 0)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    module, name = function.split(":")
    try:
        getattr(importlib.import_module(module), name)(kit)
        if kit.failed:
            raise RuntimeError(f"failed: {', '.join(kit.failed)}")
    except BaseException as error:
        traceback.print_exc()
        kit.add("error", note=f"{type(error).__name__}: {str(error)[:300]}")
        sys.exit(1)


def _end_with(parent: int) -> None:
    """Kill this process's group when the kit is gone: nothing may keep the GPU busy after it."""
    while True:
        time.sleep(1)
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            os.killpg(0, signal.SIGKILL)


def _use_gpu() -> None:
    import torch

    torch.zeros(1, device="cuda")


def _do_nothing() -> None:
    pass
