"""Tests. They run as on a processor with AVX2 only, which has no bfloat16 of its own: results and times then hardly depend
on the machine. PyTorch reads this when it is first imported."""

import os
import platform

if platform.machine() in ("x86_64", "AMD64"):
    os.environ.setdefault("ATEN_CPU_CAPABILITY", "avx2")
