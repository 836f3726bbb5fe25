"""The encoding of texts, which is UTF-8 whatever the system's is."""

from __future__ import annotations

import codecs
import locale
import os
import subprocess
import sys


def use_utf8() -> None:
    """Start this program again in Python's UTF-8 mode where the system's encoding is another one.

    Configs are UTF-8 and MONAI reads them in the system's encoding; names of slides and classes would be refused, or
    turned into others, when they are printed.
    """
    if sys.flags.utf8_mode or codecs.lookup(locale.getpreferredencoding(False)).name == "utf-8":
        return
    # For the processes that this one starts.
    os.environ["PYTHONUTF8"] = "1"
    command = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
    if os.name == "nt":
        # Windows would give the console back at once.
        raise SystemExit(subprocess.call(command))
    os.execv(sys.executable, command)
