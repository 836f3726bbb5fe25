"""``python -m common …``: phantom, demo, score, convert-released."""

from __future__ import annotations

import logging
from pathlib import Path

import fire


def phantom(
    out: str,
    training: int = 4,
    validation: int = 1,
    testing: int = 1,
    size: int = 6144,
    mpp: float = 0.5,
    seed: int = 0,
    recipe: str = "breast",
) -> None:
    """Write synthetic slides, their full label maps, partial annotations (GeoJSON, ASAP XML) and a datalist.

    Args:
        out: folder to write to.
        training: how many slides, labelled by partial annotations.
        validation: as many for choosing the checkpoint.
        testing: as many labelled by their full label maps.
        size: pixels a side.
        mpp: micrometres per pixel.
        seed: slides have this seed, the next, and so on.
        recipe: what they are made of.
    """
    from .phantom import write_phantoms

    path = write_phantoms(out, training, validation, testing, size, mpp, seed, recipe)
    print(f"{training + validation + testing} slides, datalist: {path}")


def demo(slide: str | None = None, mpp: float | None = None, output: str = "output/demo") -> None:
    """Segment a phantom and score it, or segment your own slide, with the DMMN demo checkpoint.

    Args:
        slide: your slide; without it, a phantom is made.
        mpp: micrometres per pixel of your slide, if the file does not say.
        output: folder for everything that is made.
    """
    from .demo import demo as run_demo

    run_demo(slide, mpp, output)


def score(
    prediction: str,
    truth: str,
    slide: str,
    bundle: str = "bundles/pathology_dmmn_segmentation",
    mpp: float | None = None,
    output: str | None = None,
) -> None:
    """Score a slide's prediction.tif against an annotation: scores.json, scores.csv, confusion.png.

    Args:
        prediction: the prediction.tif.
        truth: annotation of the slide.
        slide: the slide.
        bundle: whose class scheme is meant.
        mpp: micrometres per pixel of the slide, if the file does not say.
        output: folder to write to; beside the prediction by default.
    """
    from monai.bundle import ConfigParser

    from .annotations import read_annotations
    from .evaluation import score_slide
    from .handlers import write_scores
    from .slides import open_slide

    parser = ConfigParser()
    parser.read_config(str(Path(bundle) / "configs" / "inference.yaml"))
    scheme = parser.get_parsed_content("scheme")
    folder = Path(output) if output else Path(prediction).parent / "scores"
    with open_slide(slide, mpp=mpp) as opened:
        matrix = score_slide(opened, prediction, read_annotations(truth, scheme), scheme)
    figures = write_scores(folder, matrix, scheme)
    print(f"mean IoU {figures['mean_iou']:.4f}, pixel accuracy {figures['pixel_accuracy']:.4f}: {folder}")


def convert_released(released: str, out: str) -> None:
    """Turn a checkpoint that the authors of DMMN released into one that the DMMN bundle loads.

    Args:
        released: the released ``.pkl``; only its tensors are read.
        out: the checkpoint to write, ``models/released.pt`` in the bundle for ``configs/released.yaml``.
    """
    import torch

    from .files import written_whole
    from .networks import load_released_dmmn

    network = load_released_dmmn(released)
    with written_whole(out) as partial:
        torch.save(network.state_dict(), partial)
    print(f"{sum(p.numel() for p in network.parameters()):,} weights: {out}")


def main() -> None:
    """Entry point; expected errors are one line, not a traceback."""
    from .errors import UnreadableFileError

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        fire.Fire(
            {"phantom": phantom, "demo": demo, "score": score, "convert-released": convert_released},
            name="python -m common",
        )
    except (UnreadableFileError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
