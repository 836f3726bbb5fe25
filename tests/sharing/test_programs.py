"""Programs of this project's own networks are none of those that are refused."""

from __future__ import annotations

import zipfile

import pytest
import torch
from monai.bundle import ConfigParser

from common.sharing.model_files import _file_operators, check_model_file
from tests.bundles.commands import configs_of
from tests.bundles.narrow import NARROW
from tests.conftest import DA_REFINENET, DMMN, ENCDEC, MRN, MULTILEVEL

BUNDLES = {
    "dmmn": DMMN,
    "mrn": MRN,
    "multires_encdec": ENCDEC,
    "da_refinenet": DA_REFINENET,
    "multilevel_unet": MULTILEVEL,
}


def narrow_network(name):
    """A bundle's network at its narrowest, and an image for it."""
    parser = ConfigParser(ConfigParser.load_config_files(configs_of(BUNDLES[name], "inference.yaml")))
    for key, value in NARROW[name].items():
        if key.split("#")[0] in parser:
            parser[key] = value
    views = parser.get_parsed_content("fields_of_view")
    return parser.get_parsed_content("network_def").eval(), torch.rand(2, 3 * len(views), *[views[0]["size"]] * 2)


@pytest.mark.parametrize("name", BUNDLES)
def test_torchscript_of_every_network_is_accepted(name, tmp_path):
    network, _ = narrow_network(name)
    torch.jit.save(torch.jit.script(network), tmp_path / "model.ts")
    check_model_file(tmp_path / "model.ts")


@pytest.mark.parametrize("name", ["mrn"])
def test_exported_programs_of_a_network_are_accepted(name, tmp_path):
    network, image = narrow_network(name)
    program = torch.export.export(network, (image,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, tmp_path / "model.pt2")
    check_model_file(tmp_path / "model.pt2")


class Mixing(torch.nn.Module):
    """Mixes channels by einsum, whose schema has an argument called path."""

    def __init__(self):
        super().__init__()
        self.register_buffer("weights", torch.rand(3, 2))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bchw,cd->bdhw", image, self.weights)


def test_operators_that_open_files_are_told_by_their_schemas():
    assert _file_operators() == {"from_file", "save"}


def test_programs_with_einsum_are_accepted(tmp_path):
    torch.jit.save(torch.jit.script(Mixing()), tmp_path / "model.ts")
    torch.export.save(torch.export.export(Mixing(), (torch.rand(1, 3, 8, 8),)), tmp_path / "model.pt2")
    for name, record in (("model.ts", ".py"), ("model.pt2", "models/model.json")):
        with zipfile.ZipFile(tmp_path / name) as file:
            (program,) = (file.read(one) for one in file.namelist() if one.endswith(record))
        assert b"einsum" in program
        check_model_file(tmp_path / name)


class _Add(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + 1


class _Names(torch.nn.Module):
    """Has names and messages of its own that are also those of operators that open files, and of their namespaces."""

    def __init__(self):
        super().__init__()
        self.save, self.ops, self.from_file = _Add(), _Add(), torch.nn.Conv2d(3, 3, 1)

    def add(self, image: torch.Tensor, save: torch.Tensor, ops: torch.Tensor) -> torch.Tensor:
        return image + save + ops

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.dim() != 4:
            raise ValueError("resize before you save the image: torch.save(image)")
        return self.from_file(self.add(image, self.save(image), self.ops(image)))


def test_names_and_messages_of_a_network_are_no_calls(tmp_path):
    torch.jit.save(torch.jit.script(_Names()), tmp_path / "model.ts")
    with zipfile.ZipFile(tmp_path / "model.ts") as file:
        code = "".join(file.read(one).decode() for one in file.namelist() if one.endswith(".py"))
    for written in ("  save : ", "  ops : ", "self.ops", "(save).forward", '"resize before you save the image'):
        assert written in code
    check_model_file(tmp_path / "model.ts")
    torch.export.save(torch.export.export(_Names(), (torch.rand(1, 3, 8, 8),)), tmp_path / "model.pt2")
    check_model_file(tmp_path / "model.pt2")
