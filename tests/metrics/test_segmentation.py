"""Scores of a confusion matrix written by hand, and metrics of batches."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from common.classes import ClassScheme
from common.metrics import (
    ContextReliance,
    MeanIoU,
    SlideConfusion,
    bach_score,
    confusion_matrix,
    scores,
    seam_ratio,
)
from common.metrics.segmentation import matrix_bach_score
from common.phantom import BACH_CLASSES
from common.reports.scores import ScoreReport

#          predicted  a  b  c  none
MATRIX = np.array([[6, 2, 0, 2], [1, 9, 0, 0], [0, 0, 0, 0]])


def test_scores_of_a_matrix_made_by_hand():
    found = scores(MATRIX, ["a", "b", "c"])
    a, b, c = (found["classes"][name] for name in "abc")
    assert (a["iou"], a["recall"], a["precision"]) == pytest.approx((6 / 11, 6 / 10, 6 / 7))
    assert a["f1"] == pytest.approx(2 * 6 / (10 + 7))
    assert (b["iou"], b["recall"], b["precision"]) == pytest.approx((9 / 12, 9 / 10, 9 / 11))
    assert c == {"labelled_pixels": 0, "iou": None, "recall": None, "precision": None, "f1": None}
    assert found["mean_iou"] == pytest.approx((6 / 11 + 9 / 12) / 2)
    assert found["pixel_accuracy"] == pytest.approx(15 / 20)
    assert found["not_predicted"] == pytest.approx(0.1)


def test_only_labelled_pixels_count():
    truth = np.array([[1, 1, 2, 0], [2, 2, 0, 0]], dtype=np.uint8)
    prediction = np.array([[1, 2, 2, 1], [0, 2, 2, 1]], dtype=np.uint8)
    assert confusion_matrix(prediction, truth, 2).tolist() == [[1, 1, 0], [0, 2, 1]]


def test_labels_outside_the_scheme_are_refused():
    with pytest.raises(ValueError, match="above 2"):
        confusion_matrix(np.array([[1]]), np.array([[3]]), 2)
    with pytest.raises(ValueError, match="differ in shape"):
        confusion_matrix(np.zeros((2, 2)), np.zeros((2, 3)), 2)


def test_a_batch_counts_as_its_label_maps_do(scheme):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, scheme.num_channels, 9, 9, generator=generator)
    labels = torch.randint(0, len(scheme) + 1, (3, 1, 9, 9), generator=generator).to(torch.uint8)
    expected = np.zeros((len(scheme), len(scheme) + 1), dtype=int)
    for predicted, truth in zip(scheme.labels_from_logits(logits).flatten(), labels.flatten(), strict=True):
        if truth > 0:
            expected[int(truth) - 1, int(predicted) - 1] += 1
    metric = MeanIoU(scheme)
    metric.update((logits, labels))
    assert (metric._matrix.numpy() == expected).all()
    labels[0, 0, 0, 0] = len(scheme) + 1
    with pytest.raises(ValueError, match="a label above 6"):
        metric.update((logits, labels))


def one_hot_logits(labels, channels=7):
    return torch.nn.functional.one_hot(labels.long(), channels).movedim(-1, 1).float() * 9


def engine_with(output, **batch):
    return SimpleNamespace(state=SimpleNamespace(output=output, batch=batch))


def test_batches_add_up_to_one_global_matrix(scheme):
    truth = torch.randint(0, 7, (4, 8, 8), dtype=torch.uint8)
    prediction = torch.randint(1, 7, (4, 8, 8), dtype=torch.uint8)
    metric, mean = SlideConfusion(scheme, 3), MeanIoU(scheme)
    some = MeanIoU(scheme, scheme.names[:2])
    slides = [2, 0, 2, 2]
    for i in range(2):
        part = slice(2 * i, 2 * i + 2)
        output = (one_hot_logits(prediction[part]), truth[part, None])
        metric.iteration_completed(engine_with(output, slide=torch.tensor(slides[part])))
        mean.update(output)
        some.update(output)
    matrices, excluded = metric.compute()
    assert not excluded.any()
    whole = confusion_matrix(prediction.numpy(), truth.numpy(), 6)
    assert np.array_equal(matrices.sum(axis=0), whole)
    assert np.array_equal(matrices[0], confusion_matrix(prediction[1].numpy(), truth[1].numpy(), 6))
    assert not matrices[1].any()
    assert mean.compute() == pytest.approx(scores(whole, scheme.names)["mean_iou"])
    others = np.concatenate([whole[:2], np.zeros_like(whole[2:])])
    assert some.compute() == pytest.approx(
        np.mean([scores(others, scheme.names)["classes"][n]["iou"] for n in some.classes])
    )


def test_targets_without_tissue_count_as_skipped_or_not_at_all(scheme):
    """Two patches, half background (3), half adipose (6), predicted correctly; the second is off the tissue."""
    truth = torch.tensor([3, 6], dtype=torch.uint8).repeat(2, 4, 2)
    output = (one_hot_logits(truth), truth[:, None])
    batch = {"slide": torch.tensor([0, 0]), "tissue": torch.tensor([True, False])}
    found = {}
    for background in ("keep", "as_class", "exclude"):
        metric = SlideConfusion(scheme, 1, background)
        metric.iteration_completed(engine_with(output, **batch))
        matrices, excluded = metric.compute()
        found[background] = (matrices[0, 2, 2], matrices[0, 5, 5], matrices[0, 5, 2], excluded[0])
    assert found == {"keep": (16, 16, 0, 0), "as_class": (16, 8, 8, 0), "exclude": (8, 8, 0, 16)}
    with pytest.raises(ValueError, match="background must be one of"):
        SlideConfusion(scheme, 1, "skipped")


def test_a_subset_of_classes_counts_only_their_labelled_pixels():
    found = scores(np.array([[6, 2, 2, 0], [1, 9, 0, 0], [5, 0, 5, 0]]), ["a", "b", "c"], classes=["a", "b"])
    assert set(found["classes"]) == {"a", "b"}
    assert found["classes"]["a"]["iou"] == pytest.approx(6 / 11)
    assert found["mean_iou"] == pytest.approx((6 / 11 + 9 / 12) / 2)
    assert found["labelled_pixels"] == 20
    with pytest.raises(ValueError, match="no class d"):
        scores(MATRIX, ["a", "b", "c"], classes=["d"])


def test_reports_have_slides_groups_and_the_whole(scheme, tmp_path):
    matrices = np.zeros((3, 6, 7), dtype=np.int64)
    matrices[0, 0, 0], matrices[1, 0, 1], matrices[2, 1, 1] = 30, 10, 20
    data = [{"image": f"x/{name}.svs", "scanner": scanner} for name, scanner in zip("abc", "AAB", strict=True)]
    report = ScoreReport(scheme, matrices, data, group_by=["scanner"], excluded=np.array([0, 5, 0]))
    figures = report.write(tmp_path)
    assert figures["classes"]["carcinoma"]["iou"] == pytest.approx(30 / 40)
    assert [row["slide"] for row in figures["slides"]] == ["a.svs", "b.svs", "c.svs"]
    assert [row["mean_iou"] for row in figures["slides"]] == [1, 0, 1]
    assert {k: v["mean_iou"] for k, v in figures["groups"]["scanner"].items()} == {"A": pytest.approx(0.75), "B": 1}
    assert figures["groups"]["scanner"]["A"]["excluded_pixels"] == 5
    ranges = figures["groups"]["scanner"]["A"]["iou_of_slides"]
    of_slides = [row["classes"] for row in figures["slides"]]
    for name, ends in ranges.items():
        ious = [row[name]["iou"] for row, item in zip(of_slides, data, strict=True) if item["scanner"] == "A"]
        ious = [iou for iou in ious if iou is not None]
        assert ends == ([min(ious), max(ious)] if ious else None)
    assert any(ends is not None and ends[0] < ends[1] for ends in ranges.values())
    assert (tmp_path / "groups.png").exists()
    assert (tmp_path / "groups.csv").read_text().splitlines()[1].startswith("scanner,A,0.75,")
    assert len((tmp_path / "slides.csv").read_text().splitlines()) == 4
    with pytest.raises(ValueError, match=r"a\.svs: .*no column 'stain'"):
        ScoreReport(scheme, matrices, data, group_by=["stain"])


def test_the_confusion_matrix_has_only_the_classes_that_count(scheme, tmp_path):
    """As Figure 13 of Ho et al. 2021 has three of six; predictions of the others are not lost."""
    matrix = np.arange(1, 43).reshape(1, 6, 7)
    counted = ["carcinoma", "benign epithelial", "stroma"]
    confusion = ScoreReport(scheme, matrix, [{"image": "a.svs"}], counted).write(tmp_path)["confusion_matrix"]
    assert confusion["classes"] == counted
    assert confusion["columns"] == [*counted, "other classes", "not predicted"]
    # Rows 0, 1 and 3; of each 7 columns 0, 1 and 3, the sum of 2, 4 and 5, and 6.
    assert confusion["pixels"] == [
        [1, 2, 4, 3 + 5 + 6, 7],
        [8, 9, 11, 10 + 12 + 13, 14],
        [22, 23, 25, 24 + 26 + 27, 28],
    ]
    assert (tmp_path / "confusion.csv").read_text().splitlines() == [
        "true,carcinoma,benign epithelial,stroma,other classes,not predicted",
        "carcinoma,1,2,4,14,7",
        "benign epithelial,8,9,11,35,14",
        "stroma,22,23,25,77,28",
    ]


def test_context_reliance_is_the_loss_without_the_right_context(scheme):
    """Networks copy the label from one view's red channel, so the answer is known."""
    labels = torch.randint(1, 7, (8, 1, 4, 4), dtype=torch.uint8)
    image = labels.float().repeat(1, 9, 1, 1)
    elsewhere = torch.full_like(image, 6.0)
    for view, relied in ((0, {"view 2": 0, "view 3": 0}), (2, {"view 2": 0, "view 3": 1})):
        network = lambda x, v=view: one_hot_logits(x[:, 3 * v])  # noqa: E731
        metric = ContextReliance(scheme, network, 3)
        metric.iteration_completed(engine_with((network(image), labels, image), elsewhere=elsewhere))
        found = metric.compute()
        assert found["view 2"] == relied["view 2"]
        assert (found["view 3"] > 0.9) == bool(relied["view 3"])
        assert found["views 2+3"] == pytest.approx(found["view 3"])


def test_the_surroundings_of_a_target_count_as_context(scheme):
    """A network that labels the target by its ring loses everything with another ring, and nothing with another
    target."""
    image, elsewhere = torch.full((1, 3, 8, 8), 0.0), torch.full((1, 3, 8, 8), 1.0)
    labels = torch.full((1, 1, 4, 4), 2, dtype=torch.uint8)
    for seen, lost in ((0, 1.0), (4, 0.0)):

        def network(patch: torch.Tensor, seen: int = seen) -> torch.Tensor:
            logits = torch.zeros(1, 7, 4, 4)
            logits[:, 3 if patch[0, 0, seen, seen] > 0.5 else 2] = 1
            return logits

        metric = ContextReliance(scheme, network, 1, centre=4)
        metric.iteration_completed(engine_with((network(image), labels, image), elsewhere=elsewhere))
        assert metric.compute() == {"ring": lost}


def test_measuring_reliance_leaves_the_network_unchanged(scheme):
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(6), torch.nn.Conv2d(6, 7, 1)).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    image, labels = torch.rand(2, 6, 4, 4), torch.ones(2, 1, 4, 4, dtype=torch.uint8)
    engine = engine_with((torch.zeros(2, 7, 4, 4), labels, image), elsewhere=torch.rand(2, 6, 4, 4))
    engine.network = network
    ContextReliance(scheme, network, 2).iteration_completed(engine)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert network.training


def test_the_seam_ratio_sees_blocks_and_nothing_else():
    noise = np.random.default_rng(0).integers(0, 2, (256, 256), dtype=np.uint8)
    assert seam_ratio(noise, 16) == pytest.approx(1, abs=0.05)
    blocks = np.kron(np.random.default_rng(1).integers(0, 5, (16, 16), dtype=np.uint8), np.ones((16, 16), np.uint8))
    assert seam_ratio(blocks, 16) is None
    # One changed pixel inside a block has four borders: 4 of the pairs away from seams against 4/5 of those on seams.
    blocks[5, 5] += 1
    assert seam_ratio(blocks, 16) > 1000
    stripes = np.zeros((64, 64), dtype=np.uint8)
    stripes[8::16] = stripes[9::16] = 1
    assert seam_ratio(stripes, 16) == 0


# ---- the Score of BACH


@pytest.mark.parametrize(
    ("truth", "prediction", "score"),
    [(0, 0, 1.0), (2, 2, 1.0), (0, 3, 0.0), (1, 3, 0.0), (1, 0, 0.5), (2, 1, 0.5), (2, 0, 0.0), (3, 1, 1 / 3)],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_bach_score_of_one_kind_of_pixel(truth, prediction, score, dtype):
    """By hand: 1 - |p - g| / max(g, 3 - g)."""
    found = bach_score(np.full((4, 5), prediction, dtype=dtype), np.full((4, 5), truth, dtype=dtype))
    assert found == pytest.approx(score)


def test_bach_score_pools_all_pixels_and_leaves_true_normals_out():
    truth = np.array([0, 0, 0, 1, 2, 3, 3, 0], dtype=np.uint8)
    predicted = np.array([0, 0, 1, 1, 1, 3, 0, 0], dtype=np.uint8)
    # Distances 1, 0, 1, 0, 3 of at most 3, 2, 2, 3, 3.
    assert bach_score(predicted, truth) == pytest.approx(1 - 5 / 13)
    rng = np.random.default_rng(0)
    g, p = (rng.integers(0, 4, 500).astype(np.int64) for _ in range(2))
    counted = 1 - (1 - (p > 0)) * (1 - (g > 0))
    expected = 1 - np.abs(p - g).sum() / (np.maximum(g, 3 - g) * counted).sum()
    assert bach_score(p.astype(np.uint8), g.astype(np.uint8)) == pytest.approx(expected)
    with pytest.raises(ValueError, match="a grade that is none of 0 to 3"):
        bach_score(np.array([4]), np.array([0]))


def test_pixels_without_a_prediction_count_as_the_farthest_grade():
    # True normal and true benign, of which one pixel each was not predicted: 3 and 2 off.
    matrix = np.zeros((4, 5), dtype=np.int64)
    matrix[0, 4] = matrix[1, 4] = matrix[1, 1] = 1
    assert matrix_bach_score(matrix) == pytest.approx(1 - 5 / 7)


def test_scores_of_grades_have_the_score_and_others_have_not():
    matrix = np.zeros((1, 4, 5), dtype=np.int64)
    matrix[0, 2, 1], matrix[0, 3, 3] = 6, 2
    data = [{"image": "a.svs"}]
    figures = ScoreReport(BACH_CLASSES, matrix, data).results()
    assert figures["bach_score"] == figures["slides"][0]["bach_score"] == pytest.approx(1 - 6 / 18)
    of_two = ScoreReport(BACH_CLASSES, matrix, data, classes=["invasive"]).results()
    assert of_two["bach_score"] == 1.0
    assert ScoreReport(BACH_CLASSES, 0 * matrix, data).results()["bach_score"] is None
    other = ClassScheme([dataclasses.asdict(c) for c in BACH_CLASSES.classes])
    assert "bach_score" not in ScoreReport(other, matrix, data).results()
