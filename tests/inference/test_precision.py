"""Precision follows the machine."""

from __future__ import annotations

import pytest
import torch

from common.inference import InferenceOptions
from common.inference.autocast import AutocastInferer
from common.inference.precision import has_native_bfloat16, resolve_dtype

AVX2 = {"avx2": True, "avx512_f": True, "avx512_bf16": False, "amx_bf16": False}


@pytest.mark.parametrize(
    ("capability", "found", "dtype"),
    [
        ("AVX2", AVX2, "float32"),
        ("AVX512", AVX2, "float32"),
        ("AVX512", {**AVX2, "avx512_bf16": True}, "bfloat16"),
        ("AVX512", {**AVX2, "amx_bf16": True}, "bfloat16"),
        # The machine has it, PyTorch was told to do without.
        ("AVX2", {**AVX2, "avx512_bf16": True}, "float32"),
        ("NO AVX", {}, "float32"),
    ],
)
def test_auto_is_bfloat16_only_where_the_cpu_computes_it(monkeypatch, capability, found, dtype):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert resolve_dtype("auto", "cpu") == dtype
    assert InferenceOptions().on(torch.device("cpu")).dtype == dtype


def test_a_pytorch_that_cannot_say_runs_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert resolve_dtype("auto", "cpu") == "float32"


@pytest.mark.parametrize(("native", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_gpus_that_only_emulate_bfloat16_run_float32(monkeypatch, native, dtype):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    assert resolve_dtype("auto", "cuda:0") == dtype


def test_a_precision_that_is_named_is_run():
    assert [resolve_dtype(name, "cpu") for name in ("float32", "bfloat16", "float16")] == [
        "float32",
        "bfloat16",
        "float16",
    ]
    assert not has_native_bfloat16("meta")


def test_an_unknown_precision_is_refused_at_once():
    for make in (
        lambda: AutocastInferer("half"),
        lambda: InferenceOptions(dtype="half"),
        lambda: resolve_dtype("half", "cpu"),
    ):
        with pytest.raises(ValueError, match="dtype must be one of auto, float32, bfloat16, float16, not 'half'"):
            make()


def test_the_forward_pass_runs_in_what_auto_means(monkeypatch):
    seen = []

    def network(image: torch.Tensor) -> torch.Tensor:
        logits = torch.nn.functional.conv2d(image, torch.ones(1, 3, 1, 1))
        seen.append(logits.dtype)
        return logits

    for native, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr("common.inference.precision.has_native_bfloat16", lambda device, native=native: native)
        assert AutocastInferer()(torch.ones(1, 3, 4, 4), network).dtype == torch.float32
        assert seen[-1] == dtype


def test_float16_is_not_trained_in():
    network, image = torch.nn.Conv2d(3, 2, 1), torch.rand(1, 3, 4, 4)
    inferer = AutocastInferer("float16")
    with pytest.raises(ValueError, match="gradients need scaling. Set dtype to bfloat16 or auto"):
        inferer(image, network.train())
    with torch.no_grad():
        assert inferer(image, network).dtype == torch.float32
