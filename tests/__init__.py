"""Tests.

They run as on a processor with AVX2 only, which has no bfloat16 of its own, so that results and times hardly depend on
the machine. PyTorch reads the variable when it is first imported.
"""

import os
import platform

if platform.machine() in ("x86_64", "AMD64"):
    os.environ.setdefault("ATEN_CPU_CAPABILITY", "avx2")
