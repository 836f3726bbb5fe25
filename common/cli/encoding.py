"""Use UTF-8 for all texts, whatever the system's encoding."""

from __future__ import annotations

import codecs
import locale
import os
import subprocess
import sys


def use_utf8() -> None:
    """Restart this program in Python's UTF-8 mode if the system's encoding is another one.

    Configs are UTF-8, but MONAI reads them in the system's encoding. When printed, names of slides and classes would be
    refused or garbled.
    """
    if sys.flags.utf8_mode or codecs.lookup(locale.getpreferredencoding(False)).name == "utf-8":
        return
    # For the processes that this one starts.
    os.environ["PYTHONUTF8"] = "1"
    command = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
    if os.name == "nt":
        # On Windows, execv would return the console to the shell at once.
        raise SystemExit(subprocess.call(command))
    os.execv(sys.executable, command)
