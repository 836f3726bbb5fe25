"""The precision of a forward pass: the lowest that the device computes natively."""

from __future__ import annotations

from contextlib import nullcontext

import torch

DTYPES = ("auto", "float32", "bfloat16", "float16")


def resolve_dtype(dtype: str, device: torch.device | str) -> str:
    """Return the precision of a forward pass on a device.

    ``"auto"`` is bfloat16 if the device has it natively, else float32: emulated bfloat16 is several times slower.

    Args:
        dtype: one of :data:`DTYPES`.
        device: where the network runs.

    Raises:
        ValueError: there is no such precision.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
    if dtype != "auto":
        return dtype
    return "bfloat16" if has_native_bfloat16(device) else "float32"


def has_native_bfloat16(device: torch.device | str) -> bool:
    """Return whether a device has instructions for bfloat16: GPUs since Ampere, CPUs with AMX or AVX512-BF16."""
    kind = torch.device(device).type
    if kind == "cuda":
        # PyTorch answers for the current GPU.
        with torch.cuda.device(device) if torch.cuda.is_available() else nullcontext():
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind != "cpu":
        return False
    # PyTorch can be told to use less: ATEN_CPU_CAPABILITY=avx2 makes a newer CPU behave like an older one.
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return False
    has = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))
