"""Released DMMN checkpoints: their names and order, applied here by a second implementation of the forward pass."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as f

from common.networks import load_released_dmmn
from common.networks.convert_released import RELEASED_CLASSES
from common.phantom import BREAST

WIDTHS = (2, 3, 4, 5, 6)


def released_state() -> dict[str, torch.Tensor]:
    """Return random weights under the released names, with the sizes of the network's definition."""
    generator = torch.Generator().manual_seed(3)
    state: dict[str, torch.Tensor] = {}

    def layer(name: str, shape: tuple[int, ...], outputs: int) -> None:
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) * 0.3
        state[f"{name}.bias"] = torch.randn(outputs, generator=generator) * 0.1

    def block(name: str, i: int, o: int) -> None:
        layer(f"{name}.0", (o, i, 3, 3), o)
        layer(f"{name}.2", (o, o, 3, 3), o)

    w = WIDTHS
    entering = {"20x": (w[1] + w[0], w[2] + w[1] + w[0], w[3] + w[2] + w[1], w[4] + w[3] + w[2]), "10x": w[1:]}
    for m in ("20x", "10x", "5x"):
        for k, (i, o) in enumerate(zip((3, *w), w, strict=False)):
            block(f"center_{m}" if k == 4 else f"conv{k + 1}dn_{m}", i, o)
        for k in range(4):
            into = entering.get(m, w[1:])[k]
            layer(f"convtrans{k + 1}_{m}.0", (into, w[k], 3, 3), w[k])
            block(f"conv{k + 1}up_{m}", 2 * w[k], w[k])
    layer("final.0", (w[0], w[0], 3, 3), w[0])
    layer("final.2", (7, w[0], 1, 1), 7)
    return state


def released_forward(state: dict[str, torch.Tensor], bgr: dict[str, torch.Tensor]) -> torch.Tensor:
    """Run the network in plain functions, with the published crops for 256 pixels."""

    def both(name: str, x: torch.Tensor) -> torch.Tensor:
        for i in (0, 2):
            x = f.relu(f.conv2d(x, state[f"{name}.{i}.weight"], state[f"{name}.{i}.bias"], padding=1))
        return x

    def up(name: str, x: torch.Tensor) -> torch.Tensor:
        weight, bias = state[f"{name}.0.weight"], state[f"{name}.0.bias"]
        return f.relu(f.conv_transpose2d(x, weight, bias, stride=2, padding=1, output_padding=1))

    def encoded(m: str) -> list[torch.Tensor]:
        maps = [both(f"conv1dn_{m}", bgr[m])]
        for name in (f"conv2dn_{m}", f"conv3dn_{m}", f"conv4dn_{m}", f"center_{m}"):
            maps.append(both(name, f.max_pool2d(maps[-1], 2)))
        return maps

    def decoded(m: str, extras: dict[int, list[torch.Tensor]]) -> dict[int, torch.Tensor]:
        maps = encoded(m)
        x, result = maps[4], {}
        for k in (4, 3, 2, 1):
            x = up(f"convtrans{k}_{m}", torch.cat([x, *extras.get(k, [])], 1))
            x = result[k] = both(f"conv{k}up_{m}", torch.cat([maps[k - 1], x], 1))
        return result

    ten, five = decoded("10x", {}), decoded("5x", {})
    extras = {
        4: [ten[4][:, :, 8:24, 8:24], five[3][:, :, 24:40, 24:40]],
        3: [ten[3][:, :, 16:48, 16:48], five[2][:, :, 48:80, 48:80]],
        2: [ten[2][:, :, 32:96, 32:96], five[1][:, :, 96:160, 96:160]],
        1: [ten[1][:, :, 64:192, 64:192]],
    }
    x = decoded("20x", extras)[1]
    x = f.relu(f.conv2d(x, state["final.0.weight"], state["final.0.bias"], padding=1))
    return f.conv2d(x, state["final.2.weight"], state["final.2.bias"])


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_released_checkpoint_computes_the_same_on_rgb_in_our_class_order(prefix, tmp_path):
    state = released_state()
    torch.save({"model_state": {prefix + key: value for key, value in state.items()}}, tmp_path / "breast.pkl")
    network = load_released_dmmn(tmp_path / "breast.pkl")
    rgb = torch.rand(1, 9, 256, 256, generator=torch.Generator().manual_seed(1))
    bgr = {m: rgb[:, 3 * i : 3 * i + 3].flip(1) for i, m in enumerate(("20x", "10x", "5x"))}
    expected = released_forward(state, bgr)
    with torch.no_grad():
        found = network(rgb)
    for tissue in BREAST.scheme.classes:
        channel = RELEASED_CLASSES.index(tissue.name) + 1
        assert torch.allclose(found[:, tissue.channel], expected[:, channel], atol=1e-5)
    assert torch.allclose(found[:, 0], expected[:, 0], atol=1e-5)


class Malicious:
    def __reduce__(self):
        return (print, ("this must not run",))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"weights": {}}, "model_state"),
        ({"model_state": {"a.weight": torch.zeros(1)}}, "it has no final.0.weight"),
        ({"model_state": {**released_state(), "more": torch.zeros(1)}}, "it also has more"),
        ({"model_state": Malicious()}, "cannot be read as weights alone"),
    ],
)
def test_other_files_are_refused(content, says, tmp_path, capsys):
    torch.save(content, tmp_path / "x.pkl")
    with pytest.raises(ValueError, match=says):
        load_released_dmmn(tmp_path / "x.pkl")
    assert "must not run" not in capsys.readouterr().out


def test_other_classes_are_refused_unless_named(tmp_path):
    torch.save({"model_state": released_state()}, tmp_path / "x.pkl")
    with pytest.raises(ValueError, match="7 output channels"):
        load_released_dmmn(tmp_path / "x.pkl", released_classes=("tumour", "other"))
    with pytest.raises(ValueError, match="its classes are .*, not a, b, c, d, e, f"):
        load_released_dmmn(tmp_path / "x.pkl", classes=("a", "b", "c", "d", "e", "f"))
