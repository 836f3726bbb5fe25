"""Steps that go wrong, for the kit's test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from tests.gpu.kit import Kit


def raises(kit: Kit) -> None:
    """Fail."""
    raise ValueError("on purpose")


def dies(kit: Kit) -> None:
    """End as a process does that runs out of memory, with one that it has started still running."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    kit.add("first", child=child.pid)
    os.kill(os.getpid(), signal.SIGKILL)


def hangs(kit: Kit) -> None:
    """Measure something, start a process, and never end."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    kit.add("first", figure=1, child=child.pid)
    time.sleep(600)


def ends(kit: Kit) -> None:
    """End well."""
    kit.add("first", figure=2)
