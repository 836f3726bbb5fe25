"""Style transfer: generator, its training, and slides in another style."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from monai.bundle import ConfigWorkflow
from skimage.metrics import structural_similarity

from common.data import LoadMultiMagnificationPatchd, RandStyledSlided
from common.data.styled_slides import note_styled_slides, styled_slides
from common.phantom import BREAST
from common.slides import FieldOfView, SlideError, open_slide
from common.style import GreySSIMLoss, PatchAdversarial, SlideRestyler, StyleGenerator
from common.style.generator import MARGIN
from tests.conftest import MULTILEVEL, write_pyramid

VIEWS = [FieldOfView(0.5, 64), FieldOfView(2.0, 64)]


def shaken(seed: int = 0) -> StyleGenerator:
    """A generator with random weights everywhere."""
    torch.manual_seed(seed)
    generator = StyleGenerator(8, 6, latent=4, styles=8)
    for parameter in generator.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return generator.eval()


def test_untrained_it_gives_the_patch_itself():
    image = torch.rand(2, 3, 32, 32) * 0.98 + 0.01
    assert torch.allclose(StyleGenerator(8, 2)(image), image, atol=1e-5)
    with pytest.raises(ValueError, match="multiples of 4"):
        StyleGenerator(8, 2)(torch.rand(1, 3, 30, 32))


def test_another_latent_is_another_style_and_noise_another_patch():
    generator, image = shaken(), torch.rand(1, 3, 32, 32)
    made = []
    for seed, latent in ((1, 0.0), (1, 1.0), (1, 0.0), (2, 0.0)):
        torch.manual_seed(seed)
        made.append(generator(image, torch.full((1, 4), latent)))
    assert torch.equal(made[0], made[2])
    assert not torch.allclose(made[0], made[1], atol=1e-2)
    assert not torch.allclose(made[0], made[3], atol=1e-3)


def test_nothing_farther_than_the_margin_changes_a_pixel():
    """So slides can be made tile by tile."""
    generator = shaken().double()
    for name, parameter in generator.named_parameters():
        if name.endswith("noise"):
            torch.nn.init.zeros_(parameter)
    side = 2 * MARGIN + 8
    image, latent = torch.rand(1, 3, side, side, dtype=torch.float64), torch.zeros(1, 4, dtype=torch.float64)
    changed = image.clone()
    inner = slice(MARGIN, side - MARGIN)
    outside = torch.ones_like(image, dtype=torch.bool)
    outside[..., 1 : side - 1, 1 : side - 1] = False
    changed[outside] = torch.rand(int(outside.sum()), dtype=torch.float64)
    made = [generator(picture, latent)[..., inner, inner] for picture in (image, changed)]
    assert torch.equal(*made)


def test_ssim_is_scikit_images_and_of_grey():
    rng = np.random.default_rng(0)
    one, other = rng.random((2, 64, 64)).astype(np.float32)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "win_size": 11}
    _, full = structural_similarity(one, other, data_range=1.0, full=True, **options)
    wanted = 1 - full[5:-5, 5:-5].mean()
    grey = [torch.from_numpy(part)[None, None].repeat(1, 3, 1, 1) for part in (one, other)]
    assert GreySSIMLoss(2.0)(*grey).item() == pytest.approx(2 * wanted, abs=1e-3)
    # Other colours of the same grey are the same tissue.
    tinted = grey[0] * torch.tensor([1.2, 1.0, 0.8])[None, :, None, None]
    assert GreySSIMLoss()(tinted, grey[0]).item() == pytest.approx(0, abs=1e-5)


def test_least_squares_losses_are_written_out():
    """MONAI's squash logits first, with a leaky ReLU of 0.05."""
    reals, fakes = torch.tensor([[[[0.5]]]]), torch.tensor([[[[2.0]]]])
    loss = PatchAdversarial()
    assert loss(fakes).item() == pytest.approx((2.0 - 1) ** 2)
    assert loss(reals, fakes).item() == pytest.approx(0.5 * ((0.5 - 1) ** 2 + 2.0**2))


class Inverted(torch.nn.Module):
    """A generator that gives negatives."""

    latent = 1

    def forward(self, image: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
        return 1 - image


@pytest.mark.parametrize("mpp", [0.5, 0.25])
def test_a_styled_slide_shows_the_same_at_the_same_place(phantom, tmp_path, mpp):
    """Also where the slide's own pixels are smaller than the finest view's."""
    rows = np.random.default_rng(1).integers(0, 200, (160, 160, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    levels = [rows, rows[::2, ::2]]
    slide = write_pyramid(tmp_path / "a.tif", levels, (mpp, mpp), lossless=True, tile=64)
    restyler = SlideRestyler(Inverted(), [{"image": str(slide)}], tmp_path / "styled", "negative", 0.5)
    restyler.run()
    assert (tmp_path / "styled" / "negative.png").exists()
    transform = RandStyledSlided(tmp_path / "styled", prob=1.0)
    label = np.full((1280, 1280), 4, np.uint8)
    label[:, 640:] = 1
    tifffile.imwrite(tmp_path / "label.tif", label, tile=(64, 64))
    load = LoadMultiMagnificationPatchd("image", VIEWS, target=VIEWS[0], scheme=BREAST.scheme)
    item = {"image": str(slide), "label": str(tmp_path / "label.tif"), "center": (512.0, 656.0)}
    plain, styled = load(item), load(transform(item))
    # JPEG of the styled slide.
    assert np.abs(styled["image"].astype(int) + plain["image"] - 255)[:, 4:-4, 4:-4].mean() < 12
    correlation = np.corrcoef(styled["image"][:3].ravel(), plain["image"][:3].ravel())[0, 1]
    assert correlation < -0.9
    assert np.array_equal(styled["label"], plain["label"])
    assert set(np.unique(plain["label"])) == {1, 4}


def test_styles_are_mixed_in_with_their_probability_and_only_where_there_are_some(tmp_path):
    folder = tmp_path / "styled"
    for style in ("B", "C"):
        (folder / style).mkdir(parents=True)
        made = {"slides": {"a": {"bytes": 5, "modified": 0}}}
        (folder / style / "made.json").write_text(json.dumps(made))
    note_styled_slides(folder)
    (tmp_path / "a.svs").write_bytes(b"12345")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.svs").write_bytes(b"123")
    transform = RandStyledSlided(folder, prob=0.3)
    transform.set_random_state(0)
    drawn = [transform({"image": str(tmp_path / "a.svs")}).get("styled") for _ in range(1000)]
    assert sum(found is not None for found in drawn) == pytest.approx(300, abs=50)
    assert set(drawn) == {None, str(folder / "B" / "a.tif"), str(folder / "C" / "a.tif")}
    assert "styled" not in transform({"image": "x/b.svs"})
    assert "styled" not in RandStyledSlided(None, prob=1.0)({"image": "x/a.svs"})
    with pytest.raises(ValueError, match="made of another file than"):
        RandStyledSlided(folder, prob=1.0)({"image": str(tmp_path / "other" / "a.svs")})
    with pytest.raises(ValueError, match="no styled slides"):
        RandStyledSlided(tmp_path, prob=0.3)
    with pytest.raises(ValueError, match="augmentations does not name style"):
        RandStyledSlided(folder, prob=0.0)


def test_two_slides_of_one_name_are_not_made_into_one_file(tmp_path):
    with pytest.raises(ValueError, match="two slides are called 's'"):
        SlideRestyler(Inverted(), [{"image": "a/s.tif"}, {"image": "b/s.tif"}], tmp_path, "negative", 0.5)


def test_a_version_of_another_size_or_too_coarse_is_refused(tmp_path):
    rows = np.full((256, 256, 3), 200, np.uint8)
    slide = write_pyramid(tmp_path / "a.tif", [rows], (0.5, 0.5), lossless=True, tile=64)
    other = write_pyramid(tmp_path / "b.tif", [rows[:128]], (0.5, 0.5), lossless=True, tile=64)
    coarse = write_pyramid(tmp_path / "c.tif", [rows[::2, ::2]], (1.0, 1.0), lossless=True, tile=64)
    load = LoadMultiMagnificationPatchd("image", VIEWS, None)
    item = {"image": str(slide), "center": (128.0, 128.0)}
    for styled, message in ((other, "spans 64.0 µm more or less than a.tif"), (coarse, "coarser than the finest")):
        with pytest.raises(SlideError, match=message):
            load({**item, "styled": str(styled)})


def test_the_bundle_trains_a_style_and_writes_slides_in_it(phantom, tmp_path):
    sections = {
        "training": [{"image": str(phantom.slide), "scanner": "A"}],
        "unlabelled": [{"image": str(phantom.slide), "scanner": "B", "source": "lab"}],
    }
    (tmp_path / "datalist.json").write_text(json.dumps(sections))
    given = {"generator_channels": 4, "generator_blocks": 1, "discriminator_channels": 4, "epochs": 2, "batch_size": 2}
    given |= {"pairs_per_epoch": 4, "num_workers": 0, "view": {"mpp": 4.0, "size": 64}, "learning_rate": 0.01}

    def opened(**other):
        workflow = ConfigWorkflow(
            str(MULTILEVEL / "configs" / "style_transfer.yaml"),
            workflow_type=None,
            logging_file=False,
            bundle_root=str(MULTILEVEL),
            datalist=str(tmp_path / "datalist.json"),
            output_dir=str(tmp_path),
            checkpoint_dir=str(tmp_path),
            **{**given, **other},
        )
        workflow.initialize()
        return workflow

    workflow = opened()
    before = [p.clone() for p in workflow.parser.get_parsed_content("generator").parameters()]
    workflow.run()
    after = list(workflow.parser.get_parsed_content("generator").parameters())
    assert any(not torch.equal(one, other) for one, other in zip(before, after, strict=True))
    kept = torch.load(tmp_path / "style_B.pt", weights_only=True)
    assert torch.equal(kept["colors.weight"], workflow.parser.get_parsed_content("generator").colors.weight)
    found = styled_slides(tmp_path / "styled")["phantom"].versions
    assert len(found) == 1
    # The same again trains and writes nothing; something else is refused.
    written = Path(found[0]).stat().st_mtime_ns
    again = opened()
    again.parser.get_parsed_content("transfer").trainer = None
    again.run()
    assert torch.equal(again.parser.get_parsed_content("generator").colors.weight, kept["colors.weight"])
    assert Path(found[0]).stat().st_mtime_ns == written
    with pytest.raises(ValueError, match="style_B.pt: trained with other epochs"):
        opened(epochs=3).parser.get_parsed_content("transfer").run()
    (tmp_path / "style_B.pt").unlink()
    with pytest.raises(ValueError, match="slides made by another generator"):
        opened(epochs=3).parser.get_parsed_content("transfer").run()
    with open_slide(found[0]) as styled, open_slide(phantom.slide) as slide:
        assert styled.mpp == pytest.approx(4.0, rel=1e-3)
        assert styled.shape == (slide.shape[0] // 8, slide.shape[1] // 8)
