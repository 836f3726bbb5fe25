"""RefineNet and DA-RefineNet of Li et al. 2020."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from common.networks import DARefineNet, RefineNet, freeze_batch_norm
from common.networks.refinement import (
    AddFusion,
    AttentionFusion,
    ChainedResidualPooling,
    ConcatFusion,
    ResidualConvUnit,
    fusion_block,
)
from common.networks.resnet import ResNetEncoder, resnet

SMALL = {"channels": (4, 6, 8, 10), "decoder_channels": (8, 6, 6, 6)}
# Slice encoder: MB of RefineNet, MB of the dual network with "add", millions of parameters with the other fusions.
PUBLISHED = {
    "resnet50": (341.0, 441.0, 111.26, 111.46),
    "resnet101": (417.2, 517.2, 130.25, 130.45),
    "resnet152": (479.9, 579.9, 145.90, 146.09),
}


def megabytes(network: torch.nn.Module) -> float:
    return sum(value.numel() * value.element_size() for value in network.state_dict().values()) / 1e6


def millions(network: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in network.parameters()) / 1e6


def small(fusion: str = "attention") -> DARefineNet:
    torch.manual_seed(1)
    return DARefineNet(4, "resnet18", "resnet18", fusion, **SMALL)


@pytest.mark.parametrize("encoder", PUBLISHED)
def test_sizes_are_the_published_ones(encoder):
    single, add, concat, attention = PUBLISHED[encoder]
    with torch.device("meta"):
        assert round(megabytes(RefineNet(4, encoder)), 1) == single
        assert round(megabytes(DARefineNet(4, encoder, fusion="add")), 1) == add
        assert round(millions(DARefineNet(4, encoder, fusion="concat")), 2) == concat
        assert round(millions(DARefineNet(4, encoder)), 2) == attention


@pytest.mark.parametrize(
    "fusion", ["attention", *(pytest.param(f, marks=pytest.mark.all) for f in ("concat", "add", None))]
)
def test_a_network_scripts_and_exports_and_names_the_sizes_that_fit(fusion):
    torch.manual_seed(0)
    network = (RefineNet(4, "resnet18", **SMALL) if fusion is None else small(fusion)).eval()
    channels = 3 if fusion is None else 6
    image = torch.rand(2, channels, 100, 68)
    with torch.no_grad():
        expected = network(image)
        assert expected.shape == (2, 4, 100, 68)
        assert torch.allclose(torch.jit.script(network)(image), expected, atol=1e-5)
        assert torch.allclose(torch.export.export(network, (image,)).module()(image), expected, atol=1e-5)
    with pytest.raises(ValueError, match=rf"takes \(batch, {channels}, height, width\)"):
        network(torch.rand(1, 9, 64, 64))
    with pytest.raises(ValueError, match="multiples of 4"):
        network(torch.rand(1, channels, 66, 64))


def test_training_does_not_end_the_process_with_maps_laid_out_channels_last():
    """torch 2.13's own strided 1 x 1 convolutions do."""
    network = small().to(memory_format=torch.channels_last).train()
    image = torch.rand(2, 6, 72, 72).contiguous(memory_format=torch.channels_last)
    network(image).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_maps_of_an_encoder_have_the_strides_and_widths_of_a_resnet():
    for name, expansion in (("resnet18", 1), ("resnet50", 4)):
        encoder = ResNetEncoder(name, (4, 6, 8, 10)).eval()
        maps = encoder(torch.rand(1, 3, 128, 192))
        assert [part.shape[1:] for part in maps] == [
            (4 * expansion, 32, 48),
            (6 * expansion, 16, 24),
            (8 * expansion, 8, 12),
            (10 * expansion, 4, 6),
        ]
        assert [part.shape[1] for part in maps] == encoder.widths
    # torchvision's count, without its classifier of 1000 classes.
    assert sum(p.numel() for p in resnet("resnet50").parameters()) == 25_557_032 - 2_049_000
    with pytest.raises(ValueError, match="an encoder must be one of resnet18, .* not 'vgg'"):
        resnet("vgg")


def test_an_image_is_normalised_as_imagenet_s():
    encoder = ResNetEncoder("resnet18", (4, 6, 8, 10)).eval()
    seen = []
    encoder.resnet.conv1.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    encoder(torch.full((1, 3, 32, 32), 0.5))
    expected = [(0.5 - mean) / std for mean, std in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))]
    assert torch.allclose(seen[0][0, :, 3, 4], torch.tensor(expected), atol=1e-6)


def test_a_residual_unit_and_a_pooling_chain_worked_out_by_hand():
    unit = ResidualConvUnit(1)
    with torch.no_grad():
        for convolution, value in ((unit.first, 2.0), (unit.second, 3.0)):
            convolution.weight.zero_()[0, 0, 1, 1] = value
        unit.first.bias.fill_(-1.0)
    # -2: 0, -1, 0, 0 added to it; 1: 2 - 1 = 1, 3 added to it.
    image = torch.tensor([[[[-2.0, 1.0, 0.4, 3.0]]]])
    assert torch.allclose(unit(image), torch.tensor([[[[-2.0, 4.0, 0.4, 18.0]]]]))
    chain = ChainedResidualPooling(1)
    rng = np.random.default_rng(0)
    values = rng.normal(size=(12, 15)).astype(np.float32)
    with torch.no_grad():
        for number, convolution in enumerate(chain.convolutions):
            convolution.weight.fill_(0.5 + number)
        found = chain(torch.from_numpy(values)[None, None])[0, 0].numpy()
    link = total = np.maximum(values, 0)
    for number in range(4):
        link = (0.5 + number) * ndimage.maximum_filter(link, 5, mode="constant", cval=-np.inf)
        total = total + link
    assert np.allclose(found, total, atol=1e-3)


def test_attention_weighs_the_slice_s_channels_by_all_three_means():
    fusion = AttentionFusion(2)
    rng = np.random.default_rng(1)
    sliced, previous, tile = (rng.normal(size=(2, 5, 4)).astype(np.float32) for _ in range(3))
    squeeze, excite = fusion.squeeze.weight[:, :, 0, 0], fusion.excite.weight[:, :, 0, 0]
    means = np.concatenate([part.mean(axis=(1, 2)) for part in (sliced, previous, tile)])
    hidden = np.maximum(squeeze.detach().numpy() @ means, 0)
    weights = 1 / (1 + np.exp(-(excite.detach().numpy() @ hidden)))
    expected = weights[:, None, None] * sliced + previous
    maps = [torch.from_numpy(part)[None] for part in (sliced, previous)]
    with torch.no_grad():
        found = fusion(maps, fusion.prepare_context(torch.from_numpy(tile)[None]))[0].numpy()
    assert np.allclose(found, expected, atol=1e-5)


def test_which_fusion_a_block_has():
    kinds = {f: [type(fusion_block(4, f, first)) for first in (True, False)] for f in ("attention", "concat", "add")}
    assert kinds == {
        "attention": [ConcatFusion, AttentionFusion],
        "concat": [ConcatFusion, ConcatFusion],
        "add": [AddFusion, AddFusion],
    }
    assert [fusion_block(4, "concat", first).mix.in_channels for first in (True, False)] == [8, 12]
    with pytest.raises(ValueError, match="fusion must be one of attention, concat, add, not 'mean'"):
        small("mean")
    total = AddFusion()([torch.full((1, 1, 2, 2), 1.0), torch.full((1, 1, 2, 2), 2.0)], torch.full((1, 1, 2, 2), 4.0))
    assert (total == 7).all()


def test_the_tile_has_weights_of_its_own():
    """The released code uses the slice's residual units for the tile's deepest map."""
    network = small("add").train()
    network(torch.rand(1, 6, 64, 64)).sum().backward()
    for path in network.contexts:
        assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in path.parameters())


def test_frozen_batch_normalisation_stays_through_training():
    network = small()
    freeze_batch_norm(network, ["slice_encoder", "context_encoder"])
    network.train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    step = torch.optim.SGD(network.parameters(), lr=0.1)
    network(torch.rand(2, 6, 64, 64)).sum().backward()
    step.step()
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    norms = {
        f"{module}.{name}"
        for module, part in network.named_modules()
        if isinstance(part, torch.nn.BatchNorm2d)
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }
    assert not changed & norms
    assert "slice_encoder.resnet.conv1.weight" in changed
    assert network.head[0].training
    half = small().train()
    freeze_batch_norm(half, ["slice_encoder"])
    half(torch.rand(2, 6, 64, 64))
    assert half.slice_encoder.resnet.bn1.num_batches_tracked == 0
    assert half.context_encoder.resnet.bn1.num_batches_tracked == 1
    with pytest.raises(ValueError, match="RefineNet has no encoder 'context_encoder'"):
        freeze_batch_norm(RefineNet(4, "resnet18", **SMALL), ["context_encoder"])
