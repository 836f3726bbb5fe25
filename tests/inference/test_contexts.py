"""Ways to run a network over a block, against patches run one by one."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

from common.inference import InferenceOptions, Segmenter
from common.networks import DMMNM3, DMMNS2, MRN, NETWORKS, MultiResolutionEncoderDecoder, UNet
from common.slides import FieldOfView, PatchReader, SlideError, open_slide
from tests.conftest import write_pyramid

CPU = torch.device("cpu")
SIDE = 256
VIEWS = [FieldOfView(mpp, SIDE) for mpp in (0.5, 1.0, 2.0)]
# With three poolings a pixel sees 59 pixels, less than the 64 that a 10x patch has around its target.
SHALLOW = (4, 6, 8, 10)
MRNS = {f"MRN {upsample}": upsample for upsample in ("bilinear", "transposed", "transposed_single")}
SEPARABLE = [*(name for name, network in NETWORKS.items() if network is not DMMNS2), *MRNS]
# These upsample what they cut from the coarse maps, and so see the cut's border when they do it per patch.
UPSAMPLING = ("DMMNMS", "DMMNM2S", "MRN bilinear")


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (20, 28, 3)).repeat(32, 0).repeat(32, 1)
    pixels = (coarse // 2 + rng.integers(0, 128, coarse.shape)).astype(np.uint8)
    return open_slide(write_pyramid(tmp_path_factory.mktemp("slide") / "s.tif", [pixels], (0.5, 0.5)))


def make(name: str, channels=SHALLOW):
    torch.manual_seed(3)
    if name in MRNS:
        network = MRN(out_channels=7, resolutions=3, upsample=MRNS[name], channels=channels)
        _remember(network)
        return network.eval()
    return NETWORKS[name](channels=channels).eval()


def _remember(network) -> None:
    """Fill in what batch normalisation would have seen in training."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.normal_(module.bias, std=0.1)


def views_of(network) -> list[FieldOfView]:
    return VIEWS[: len(network.mpp_ratios)]


def segmenter(network, scheme, views=None, devices=("cpu",), **options) -> Segmenter:
    views = views or views_of(network)
    reader = PatchReader(views, fill="reflect")
    return Segmenter(
        network,
        [torch.device(d) for d in devices],
        reader,
        VIEWS[0],
        scheme,
        InferenceOptions(**options),
        lambda x: x / 255,
    )


def probabilities(slide, folder, network, scheme, maps=("labels", "probabilities"), **options):
    """(C, H, W) uint8 over the whole slide."""
    found = segmenter(network, scheme, **options).segment(slide, folder, {}, maps).maps
    return found["probabilities"].array[:].astype(int)


def patch_by_patch(slide, network, scheme, stride=SIDE):
    """Place on the slide -> probabilities (C, 256, 256) of the patch there."""
    reader = PatchReader(views_of(network), fill="reflect")
    found = {}
    for top in range(0, slide.shape[0] - SIDE + stride, stride):
        for left in range(0, slide.shape[1] - SIDE + stride, stride):
            patch = reader.read(slide, (top + SIDE / 2, left + SIDE / 2)).astype(np.float32) / 255
            with torch.no_grad():
                logits = network(torch.from_numpy(patch)[None])
            found[top, left] = scheme.probabilities(logits)[0].numpy()
    return found


@pytest.mark.parametrize("name", SEPARABLE)
def test_shared_context_equals_that_of_a_patch_away_from_borders(slide, scheme, tmp_path, name):
    network = make(name)
    found = probabilities(slide, tmp_path, network, scheme, context="shared", block=2, batch_size=3)
    # MRN upsamples per target here, too.
    rim = 64 if name in UPSAMPLING and name not in MRNS else 0
    for (top, left), expected in patch_by_patch(slide, network, scheme).items():
        part = found[:, top + rim : top + SIDE - rim, left + rim : left + SIDE - rim]
        middle = 255 * expected[:, rim : SIDE - rim, rim : SIDE - rim]
        assert abs(part - middle[:, : part.shape[1], : part.shape[2]]).max() <= 1


@pytest.mark.parametrize("name", SEPARABLE)
def test_seamless_inference_equals_the_middle_of_a_patch_and_does_not_depend_on_blocks(slide, scheme, tmp_path, name):
    network = make(name)
    found = probabilities(slide, tmp_path / "a", network, scheme, context="seamless", block=2)
    other = probabilities(slide, tmp_path / "b", network, scheme, context="seamless", block=1)
    assert abs(found - other).max() <= 1
    # Up to the slide's border, where the finest branch sees what a patch sees.
    ends = name not in UPSAMPLING
    for place, expected in patch_by_patch(slide, network, scheme).items():
        inner = [
            slice(0 if ends and start == 0 else 64, SIDE if ends and start + SIDE >= side else SIDE - 64)
            for start, side in zip(place, slide.shape, strict=True)
        ]
        part = found[:, place[0] : place[0] + SIDE, place[1] : place[1] + SIDE]
        middle = 255 * expected[:, : part.shape[1], : part.shape[2]]
        assert abs(part - middle)[:, inner[0], inner[1]].max() <= 1


@pytest.mark.parametrize("pooled", [2, 3, 4])
@pytest.mark.parametrize("name", ["UNet", "SegNet"])
def test_nothing_beyond_the_margin_reaches_a_pixel(name, pooled):
    network = make(name, SHALLOW[:1] * (pooled + 1))
    image = torch.rand(1, 3, 32, 512)
    with torch.no_grad():
        before = network(image)
        for column in range(256, 256 + 2**pooled):
            changed = image.clone()
            changed[..., : column - network.receptive_margin] = 1
            changed[..., column + network.receptive_margin + 1 :] = 0
            assert torch.equal(network(changed)[..., column], before[..., column])


def test_overlapping_predictions_are_averaged_by_a_gaussian_of_the_distance_to_their_centre(slide, scheme, tmp_path):
    network, stride = make("UNet"), SIDE // 2
    found = probabilities(slide, tmp_path / "a", network, scheme, overlap=0.5, block=1)
    other = probabilities(slide, tmp_path / "b", network, scheme, overlap=0.5, block=2)
    assert abs(found - other).max() <= 1
    shape = [(-(-(side - SIDE) // stride)) * stride + SIDE for side in slide.shape]
    total, weights = np.zeros((6, *shape)), np.zeros(shape)
    distance = np.arange(SIDE) - (SIDE - 1) / 2
    bell = np.exp(-0.5 * (distance / (SIDE / 8)) ** 2)
    importance = np.maximum(np.outer(bell, bell), np.finfo(np.float32).tiny)
    for (top, left), expected in patch_by_patch(slide, network, scheme, stride).items():
        total[:, top : top + SIDE, left : left + SIDE] += importance * expected
        weights[top : top + SIDE, left : left + SIDE] += importance
    mean = (total / weights)[:, : slide.shape[0], : slide.shape[1]]
    difference = abs(found - 255 * mean)
    assert difference.mean() < 0.3
    assert np.percentile(difference, 99.9) <= 1


class Constant(torch.nn.Module):
    """Says the same everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.tensor([9.0, 0.3, 0.1, 0.9, 0.2, 0.0, 0.4]))

    def forward(self, image):
        return self.logits[None, :, None, None].expand(len(image), -1, *image.shape[2:])


def test_blending_keeps_a_constant_constant_up_to_the_border(slide, scheme, tmp_path):
    found = probabilities(slide, tmp_path, Constant(), scheme, views=VIEWS[:1], overlap=0.3, block=2)
    expected = torch.softmax(Constant().logits[1:], dim=0) * 255
    assert (found == expected.round().int().numpy()[:, None, None]).all()


class Leaning(torch.nn.Module):
    """Brightness of the pixel above and twice to the left: differs under every flip and turn."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(4.0))

    def forward(self, image):
        moved = torch.roll(image[:, 0], (1, 2), (1, 2)) * torch.linspace(1, 2, image.shape[3])
        return torch.stack([moved * 0, *(self.factor * moved * number for number in range(6))], dim=1)


@pytest.mark.parametrize(("tta", "count"), [("flips", 4), ("d4", 8)])
def test_flips_and_turns_are_undone_and_averaged(slide, scheme, tmp_path, tta, count):
    found = probabilities(slide, tmp_path, Leaning(), scheme, views=VIEWS[:1], tta=tta, block=2, batch_size=5)
    moves = [(turn, flip) for turn in range(0, 4, 8 // count) for flip in (False, True)]
    # The second lies in a window of one row and two columns.
    for top, left in ((0, 256), (512, 768)):
        patch = PatchReader(VIEWS[:1], fill="reflect").read(slide, (top + 128, left + 128)).astype(np.float32) / 255
        mean = 0
        for turn, flip in moves:
            moved = np.rot90(patch[:, :, ::-1] if flip else patch, turn, (1, 2))
            with torch.no_grad():
                said = scheme.probabilities(Leaning()(torch.from_numpy(moved.copy())[None]))[0].numpy()
            said = np.rot90(said, -turn, (1, 2))
            mean = mean + (said[:, :, ::-1] if flip else said) / len(moves)
        part = found[:, top : top + 256, left : left + 256]
        assert part.size
        assert abs(part - 255 * mean[:, : part.shape[1], : part.shape[2]]).max() <= 1


@pytest.mark.parametrize("context", ["shared", "seamless"])
def test_flips_and_turns_of_whole_blocks_are_those_of_their_targets(slide, scheme, tmp_path, context):
    network = make("DMMNM3")
    found = probabilities(slide, tmp_path / "a", network, scheme, context=context, tta="d4", block=3)
    single = probabilities(slide, tmp_path / "b", network, scheme, context=context, tta="d4", block=1)
    assert abs(found - single).max() <= 1


def test_labels_do_not_depend_on_what_else_is_asked_for_nor_on_devices(slide, scheme, tmp_path):
    network = make("DMMNM3")
    alone = segmenter(network, scheme, block=1).segment(slide, tmp_path / "a", {}).maps
    maps = ("labels", "probabilities", "entropy")
    with_more = segmenter(network, scheme, block=1).segment(slide, tmp_path / "b", {}, maps).maps
    on_two = (
        segmenter(network, scheme, devices=("cpu", "cpu"), block=1, reader_threads=1)
        .segment(slide, tmp_path / "c", {})
        .maps
    )
    labels = alone["labels"].array[:]
    assert len(np.unique(labels)) > 2
    assert np.array_equal(labels, with_more["labels"].array[:])
    assert np.array_equal(labels, on_two["labels"].array[:])
    shares = with_more["probabilities"].array[:] / 255
    assert (abs(shares.sum(axis=0) - 1) < 0.02).all()
    entropy = -(shares * np.log(np.maximum(shares, 1e-9))).sum(axis=0) / np.log(6)
    assert abs(with_more["entropy"].array[:] / 255 - entropy).max() < 0.03


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        ("DMMNS2", {"context": "shared"}, 'DMMNS2 cannot be run with context="shared"'),
        (
            "DMMNM3",
            {"context": "shared", "overlap": 0.4375},
            "targets of 256 pixels every 144 do not fall on multiples",
        ),
        ("DMMNM3", {"context": "seamless", "overlap": 0.5}, "seamless inference has no patch borders"),
        ("DMMNM3", {"context": "swift"}, "context must be one of per_patch, shared, seamless"),
        ("DMMNM3", {"overlap": 1.0}, "overlap must be a share from 0 to below 1"),
        ("DMMNM3", {"block": 0}, "block must be at least 1"),
    ],
)
def test_networks_and_options_that_do_not_fit_together_are_refused(slide, scheme, tmp_path, network, options, message):
    with pytest.raises(ValueError, match=message):
        segmenter(make(network), scheme, **options).segment(slide, tmp_path, {})


def test_preprocessing_that_looks_at_more_than_a_pixel_is_refused(scheme):
    reader = PatchReader(VIEWS[:1])
    with pytest.raises(ValueError, match="preprocessing must treat every pixel by itself"):
        Segmenter(
            UNet(channels=SHALLOW),
            [torch.device("cpu")],
            reader,
            VIEWS[0],
            scheme,
            InferenceOptions(),
            lambda x: x - x.mean(),
        )


def test_preprocessing_that_mixes_views_is_refused(scheme):
    reader = PatchReader(VIEWS)
    with pytest.raises(ValueError, match="preprocessing must treat every field of view by itself"):
        Segmenter(
            make("DMMNM3"),
            [CPU],
            reader,
            VIEWS[0],
            scheme,
            InferenceOptions(),
            lambda x: x - x.mean(dim=0, keepdim=True),
        )


def test_a_network_and_fields_of_view_that_do_not_fit_are_refused(slide, scheme, tmp_path):
    with pytest.raises(ValueError, match="the network's output has 64 x 64 pixels, the target 256 x 256"):
        segmenter(UNet(channels=SHALLOW, center=4), scheme).segment(slide, tmp_path / "a", {})
    with pytest.raises(ValueError, match=r"DMMNM3 reads views at \(1, 2, 4\) times"):
        segmenter(make("DMMNM3"), scheme, views=[VIEWS[0], VIEWS[2]]).segment(slide, tmp_path / "b", {})
    with pytest.raises(ValueError, match="UNet cannot be run"):
        segmenter(UNet(channels=SHALLOW), scheme, views=VIEWS, context="seamless").segment(slide, tmp_path / "c", {})


@pytest.mark.parametrize("maps", [("labels",), ("probabilities",)])
def test_output_that_is_not_finite_is_not_taken_for_a_class(slide, scheme, tmp_path, maps):
    network = make("DMMNM3")
    with torch.no_grad():
        network.head[-1].bias[3] = torch.nan
    with pytest.raises(SlideError, match=r"s.tif: .*output is not finite .* from row 0, column 0 of 512 x 512"):
        segmenter(network, scheme, block=2).segment(slide, tmp_path, {}, maps)


def test_a_network_of_the_centre_is_run_on_overlapping_views(slide, scheme, tmp_path):
    network = UNet(channels=SHALLOW, center=4).eval()
    reader = PatchReader(VIEWS[:1], fill="reflect")
    target = FieldOfView(0.5, 64)
    labels = Segmenter(network, [CPU], reader, target, scheme, InferenceOptions(block=3), lambda x: x / 255)
    found = labels.segment(slide, tmp_path / "a", {}).maps["labels"]
    patch = torch.from_numpy(reader.read(slide, (64 * 4 + 32, 64 * 7 + 32)).astype(np.float32) / 255)
    with torch.no_grad():
        expected = scheme.labels_from_logits(network(patch[None]))[0].numpy()
    assert (found.read(256, 448, 64, 64) == expected).mean() > 0.999
    whole = Segmenter(network, [CPU], reader, target, scheme, InferenceOptions(context="seamless"), lambda x: x / 255)
    seamless = whole.segment(slide, tmp_path / "b", {}).maps["labels"]
    assert (found.array[:] == seamless.array[:]).mean() > 0.999


def test_a_network_of_a_wider_patch_runs_without_seams(slide, scheme, tmp_path):
    """Of blocks of any size the same, and what the network says of all that a pixel can see."""
    torch.manual_seed(3)
    network = MultiResolutionEncoderDecoder(7, channels=(3, 4, 5, 6)).eval()
    _remember(network)
    reader, target = PatchReader([FieldOfView(0.5, 192)], fill="symmetric"), FieldOfView(0.5, 128)
    found = []
    for block in (1, 3):
        run = Segmenter(
            network, [CPU], reader, target, scheme, InferenceOptions(context="seamless", block=block), lambda x: x / 255
        )
        maps = run.segment(slide, tmp_path / str(block), {}, ("labels", "probabilities")).maps
        found.append(maps["probabilities"].array[:].astype(int))
    assert abs(found[0] - found[1]).max() <= 1
    image = reader.read_view(slide, 0, (320.0, 448.0), 128 + 2 * network.receptive_margin).transpose(2, 0, 1)
    with torch.no_grad():
        logits = network.forward_with_context(torch.from_numpy(image)[None].float() / 255, [])
    inner = slice(network.receptive_margin, -network.receptive_margin)
    expected = 255 * scheme.probabilities(logits)[0].numpy()[:, inner, inner]
    assert abs(found[0][:, 256:384, 384:512] - expected).max() <= 1


def test_views_may_be_preprocessed_differently(slide, scheme, tmp_path):
    network = DMMNM3(channels=SHALLOW).eval()
    means = torch.arange(9.0)[:, None, None] * 10
    reader = PatchReader(VIEWS, fill="reflect")
    found = (
        Segmenter(
            network,
            [torch.device("cpu")],
            reader,
            VIEWS[0],
            scheme,
            InferenceOptions(block=2),
            lambda x: (x - means) / 99,
        )
        .segment(slide, tmp_path, {})
        .maps
    )
    patch = torch.from_numpy(reader.read(slide, (128, 384)).astype(np.float32))
    with torch.no_grad():
        expected = scheme.labels_from_logits(network(((patch - means) / 99)[None]))[0].numpy()
    assert (found["labels"].read(0, 256, 256, 256) == expected).mean() > 0.999


def test_numbers_of_threads_and_streams_are_no_output_settings():
    assert (
        InferenceOptions(reader_threads=1, streams=1).output_settings()
        == InferenceOptions(reader_threads=7, streams=3).output_settings()
    )
    assert InferenceOptions(batch_size=1).output_settings() != InferenceOptions(batch_size=2).output_settings()
    with pytest.raises(ValueError, match="streams must be at least 1, not 0"):
        InferenceOptions(streams=0)


class Watched(torch.nn.Module):
    """Notes which threads it runs in, and how many at once."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.arange(7.0))
        self.threads, self.running, self.most = set(), 0, 0

    def __deepcopy__(self, memo):
        return self

    def forward(self, image):
        self.threads.add(threading.get_ident())
        self.running += 1
        self.most = max(self.most, self.running)
        time.sleep(0.01)
        self.running -= 1
        return self.logits[None, :, None, None].expand(len(image), -1, *image.shape[2:])


@pytest.mark.parametrize("compiled", [False, True])
def test_threads_are_kept_from_slide_to_slide_and_call_compiled_networks_one_at_a_time(
    slide, scheme, tmp_path, monkeypatch, compiled
):
    monkeypatch.setattr(torch, "compile", lambda function: function)
    network = Watched()
    made = segmenter(network, scheme, VIEWS[:1], devices=("cpu", "cpu"), block=1, compile=compiled)
    for name in ("first", "second", "third"):
        made.segment(slide, tmp_path / name, {})
    assert len(network.threads) == 2
    assert network.most == (1 if compiled else 2)


def test_on_a_cpu_no_gpu_is_touched(slide, scheme, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: pytest.fail("a GPU's stream is asked for"))
    segmenter(Watched(), scheme, VIEWS[:1]).segment(slide, tmp_path, {})
