"""Checkpoints of whole networks and of branches."""

from __future__ import annotations

import json
import logging

import pytest
import torch

from common.classes import ClassScheme
from common.files import sha256
from common.networks import DMMNM3, MRN, MultiResolutionEncoderDecoder, UNet
from common.networks.checkpoints import load_backbone, load_branches, load_encoders, load_weights
from common.training.handlers import WeightsLoader

NARROW = (2, 4, 6, 8, 10)


@pytest.fixture
def unet(tmp_path):
    network = UNet(channels=NARROW)
    torch.save({"model": network.state_dict()}, tmp_path / "unet.pt")
    return network, tmp_path / "unet.pt"


def test_a_branch_returns_what_the_unet_returned(unet):
    network, path = unet
    image = torch.rand(1, 3, 128, 128)
    nothing = [[]] * 4
    dmmn = DMMNM3(channels=NARROW)
    before = dmmn.encoder_20x.blocks[0][0].weight.clone()
    load_branches(dmmn, {"5x": path})
    maps = dmmn.decoder_5x(dmmn.encoder_5x(image), nothing)
    for found, expected in zip(maps, network.decoder(network.encoder(image), nothing), strict=True):
        assert torch.equal(found, expected)
    assert torch.equal(dmmn.encoder_20x.blocks[0][0].weight, before)


def test_a_frozen_branch_stays_while_the_others_learn(unet):
    dmmn = DMMNM3(channels=NARROW)
    load_branches(dmmn, {"5x": unet[1]}, frozen=True)
    before = {key: value.clone() for key, value in dmmn.state_dict().items()}
    optimizer = torch.optim.AdamW(dmmn.parameters(), 0.01)
    dmmn(torch.rand(1, 9, 128, 128)).square().mean().backward()
    optimizer.step()
    changed = {key.split(".")[0] for key, value in dmmn.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"encoder_20x", "encoder_10x", "decoder_20x", "decoder_10x", "head"}


def test_what_does_not_fit_is_named(unet, tmp_path):
    with pytest.raises(ValueError, match="DMMNM3 has no branch '40x'"):
        load_branches(DMMNM3(channels=NARROW), {"40x": unet[1]})
    with pytest.raises(ValueError, match=r"none\.pt: no such checkpoint"):
        load_branches(DMMNM3(channels=NARROW), {"5x": tmp_path / "none.pt"})
    with pytest.raises(ValueError, match=r"unet\.pt holds the weights of another network than Encoder"):
        load_branches(DMMNM3(channels=(4, 4, 6, 8, 10)), {"5x": unet[1]})
    with pytest.raises(ValueError, match=r"unet\.pt holds the weights of another network than DMMNM3"):
        load_weights(DMMNM3(channels=NARROW), unet[1])


def test_an_encoder_of_several_is_initialised_with_the_u_net_of_its_view(tmp_path):
    """All its weights and the statistics of batch normalisation are loaded; the other encoders stay unchanged."""
    unet = MRN(resolutions=1, channels=NARROW)
    unet.train()(torch.rand(2, 3, 64, 64))
    torch.save(unet.state_dict(), tmp_path / "unet.pt")
    network = MRN(resolutions=3, channels=NARROW)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    load_encoders(network, {"2": tmp_path / "unet.pt"})
    image = torch.rand(1, 3, 64, 64)
    found, expected = network.eval().encoders[2](image), unet.eval().encoders[0](image)
    assert all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))
    changed = {key.split(".")[1] for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"2"}
    torch.save(network.state_dict(), tmp_path / "mrn.pt")
    with pytest.raises(ValueError, match=r"mrn\.pt: a network of several resolutions"):
        load_encoders(network, {"2": tmp_path / "mrn.pt"})
    with pytest.raises(ValueError, match="MRN has encoders 0 to 2, not 3"):
        load_encoders(network, {3: tmp_path / "unet.pt"})
    with pytest.raises(ValueError, match=r"unet\.pt holds the weights of another network than Encoder"):
        load_encoders(MRN(resolutions=2, channels=(3, 4, 6, 8, 10)), {1: tmp_path / "unet.pt"})


def resnet18() -> dict[str, torch.Tensor]:
    """Return ResNet-18's weights in torchvision's names and shapes."""
    shapes = {"conv1.weight": (64, 3, 7, 7), "fc.weight": (1000, 512), "fc.bias": (1000,)}
    normalisations = {"bn1": 64}
    before = 64
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            name, inputs = f"layer{stage}.{block}", before if block == 0 else width
            shapes |= {f"{name}.conv1.weight": (width, inputs, 3, 3), f"{name}.conv2.weight": (width, width, 3, 3)}
            normalisations |= {f"{name}.bn1": width, f"{name}.bn2": width}
            if block == 0 and inputs != width:
                shapes[f"{name}.downsample.0.weight"] = (width, inputs, 1, 1)
                normalisations[f"{name}.downsample.1"] = width
        before = width
    for name, width in normalisations.items():
        shapes |= {f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")}
        shapes[f"{name}.num_batches_tracked"] = ()
    return {name: torch.rand(shape) for name, shape in shapes.items()}


def test_all_encoders_are_initialised_with_a_classifier(tmp_path):
    weights = resnet18()
    torch.save(weights, tmp_path / "resnet18.pth")
    network = MultiResolutionEncoderDecoder()
    rest = network.centre.dense.classes[0].weight.clone()
    load_backbone(network, tmp_path / "resnet18.pth")
    for encoder in (network.wide.trunk.resnet, network.centre.trunk.resnet):
        state = encoder.state_dict()
        assert set(state) == {name for name in weights if not name.startswith("fc.")}
        assert all(torch.equal(state[name], weights[name].to(state[name].dtype)) for name in state)
    assert torch.equal(network.centre.dense.classes[0].weight, rest)
    with pytest.raises(ValueError, match=r"resnet18\.pth holds the weights of another network than ResNet"):
        load_backbone(MultiResolutionEncoderDecoder(channels=(4, 5, 6, 7)), tmp_path / "resnet18.pth")
    with pytest.raises(ValueError, match="UNet has no encoder to load"):
        load_backbone(UNet(channels=NARROW), tmp_path / "resnet18.pth")
    with pytest.raises(ValueError, match=r"absent\.pth: no such checkpoint"):
        load_backbone(network, tmp_path / "absent.pth")


TWO = ClassScheme([{"name": name, "color": (0, 0, 0), "label": i + 1, "channel": i} for i, name in enumerate("ab")])
VIEW = {"mpp": 1.0, "size": 64}


@pytest.fixture
def described(unet):
    """Return a checkpoint of a U-Net, and a function that writes the metadata next to it."""

    def describe(**said):
        plain = {"bundle": "my_bundle", "overlays": ["demo.yaml"], "fields_of_view": [VIEW], "target": VIEW}
        content = {"sha256": sha256(unet[1]), "classes": ["a", "b"], **plain, **said}
        unet[1].with_suffix(".json").write_text(json.dumps(content))

    return (*unet, describe)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            {"fields_of_view": [{"mpp": 2.0, "size": 64}]},
            "was trained with views at 2 µm/px, the config says 1. "
            "Add the overlay it was trained with: --config demo.yaml",
        ),
        (
            {"classes": ["b", "a"], "overlays": []},
            "was trained with the classes b, a, the config says a, b. "
            "It was trained with the bundle my_bundle and no overlay: use the same",
        ),
        (
            {"target": {"mpp": 0.5, "size": 64}, "bundle": None, "overlays": []},
            "was trained to predict at 0.5 µm/px, the config says 1 (unet.json)",
        ),
    ],
)
def test_weights_that_were_trained_on_something_else_are_refused_before_they_predict(described, said, message):
    _, path, describe = described
    describe(**said)
    network = UNet(channels=NARROW)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(ValueError, match="was trained") as failure:
        WeightsLoader(path, network, [VIEW], VIEW, TWO)(None)
    assert str(failure.value) == f"{path} {message}"
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    # A training may begin with them.
    WeightsLoader(path, network)(None)
    assert not all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_other_sizes_are_logged_and_not_refused(described, caplog):
    _, path, describe = described
    describe(fields_of_view=[{"mpp": 1.0, "size": 512}])
    with caplog.at_level(logging.INFO):
        load_weights(UNet(channels=NARROW), path, [VIEW], VIEW, TWO)
    assert f"{path} was trained on views of 512 pixels, here they have 64" in caplog.messages


@pytest.mark.parametrize(
    ("said", "level", "message"),
    [
        ({"synthetic": True, "trained_on": "8 painted slides."}, "WARNING", "trained on synthetic slides only"),
        ({"trained_on": "12 H&E slides at 1 µm/px."}, "INFO", "Weights trained on 12 H&E slides at 1 µm/px."),
        ({}, "INFO", "nothing is known about what these weights were trained on"),
        (None, "INFO", "nothing is known about what these weights were trained on"),
    ],
)
def test_what_weights_were_trained_on_is_said_once_when_they_are_loaded_to_predict(
    described, said, level, message, caplog
):
    _, path, describe = described
    if said is not None:
        describe(**said)
    with caplog.at_level(logging.INFO):
        load_weights(UNet(channels=NARROW), path, scheme=TWO)
        load_weights(UNet(channels=NARROW), path)
    (record,) = caplog.records
    assert record.levelname == level
    assert record.getMessage().startswith(f"{path}: ")
    assert message in record.getMessage()


def test_another_network_s_weights_name_the_overlays_they_were_trained_with(described):
    _, path, describe = described
    describe()
    with pytest.raises(ValueError, match=r"another network than DMMNM3.*Add the overlay .* --config demo\.yaml$"):
        load_weights(DMMNM3(channels=NARROW), path)
    describe(overlays=[])
    with pytest.raises(ValueError, match=r"Set network_def to the network \(and widths\) it was trained with$"):
        load_weights(DMMNM3(channels=NARROW), path)


def test_damaged_metadata_stop_the_loading(described):
    _, path, _ = described
    path.with_suffix(".json").write_text("{")
    with pytest.raises(ValueError, match=r"unet\.json: no JSON that can be read"):
        load_weights(UNet(channels=NARROW), path)
