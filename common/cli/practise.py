"""Write synthetic slides to practise on, and run the demonstration."""

from __future__ import annotations


def demo(
    slide: str | None = None, mpp: float | None = None, output: str = "output/demo", series: int | None = None
) -> None:
    """Segment a phantom and score it, or segment your own slide, with the DMMN demo checkpoint.

    Args:
        slide: your slide; without it, a phantom is made.
        mpp: micrometres per pixel of your slide, instead of the file's.
        output: folder for all results.
        series: number of the image, in a slide file of several, from 0.
    """
    from .demo import demo as run_demo

    run_demo(slide, mpp, output, series)


def phantom(
    output: str,
    training: int = 4,
    validation: int = 1,
    testing: int = 1,
    size: int = 6144,
    mpp: float = 0.5,
    seed: int = 0,
    recipe: str = "breast",
    style: str = "whole",
) -> None:
    """Write synthetic slides, their full label maps, partial annotations (GeoJSON, ASAP XML) and a datalist.

    Args:
        output: folder to write to.
        training: number of slides for training, labelled by partial annotations.
        validation: number of slides for choosing the checkpoint, labelled the same way.
        testing: number of slides for testing, labelled by their full label maps.
        size: pixels per side.
        mpp: micrometres per pixel.
        seed: random seed of the first slide; each further slide has the next.
        recipe: kind of tissue.
        style: style of annotation: whole components with thin seams, spaced ones, or cropped fields.
    """
    from ..phantom import write_phantoms

    path = write_phantoms(output, training, validation, testing, size, mpp, seed, recipe, style)
    print(f"{training + validation + testing} slides, datalist: {path}")


def phantom_camelyon16(
    output: str,
    normal: int = 4,
    tumour: int = 8,
    testing: int = 4,
    size: int = 6144,
    mpp: float = 0.5,
    seed: int = 0,
    labels: bool = False,
) -> None:
    """Write synthetic lymph nodes in CAMELYON16's folders, with its file names and annotations.

    Args:
        output: folder to write to.
        normal: number of slides for training without metastases.
        tumour: number of slides for training with metastases.
        testing: number of slides for testing, alternately with and without metastases.
        size: pixels per side.
        mpp: micrometres per pixel.
        seed: random seed of the first slide; each further slide has the next.
        labels: also write full label maps, which the data set does not have.
    """
    from ..phantom import write_camelyon16

    path = write_camelyon16(output, normal, tumour, testing, size, mpp, seed, labels)
    print(f"{normal + tumour + testing} slides: {path}")


def phantom_breast_biopsies(
    output: str,
    training: int = 24,
    validation: int = 8,
    testing: int = 120,
    size: int = 1280,
    mpp: float = 1.0,
    seed: int = 0,
) -> None:
    """Write synthetic regions of interest with eight tissue labels and four diagnoses, several per case.

    Args:
        output: folder to write to.
        training: number of regions for training.
        validation: number of regions for choosing the checkpoint.
        testing: number of regions for scores and diagnosis.
        size: mean pixels per side; each side of each region is between three and five quarters of that.
        mpp: micrometres per pixel.
        seed: random seed.
    """
    from ..phantom import write_breast_biopsies

    path = write_breast_biopsies(output, training, validation, testing, size, mpp, seed)
    print(f"{training + validation + testing} regions, datalist: {path}")


def phantom_bach(
    output: str, slides: int = 10, size: int = 8192, mpp: float = 2.0, seed: int = 0, far: bool = False
) -> None:
    """Write synthetic breast slides in BACH's folders and formats, with regions of several millimetres.

    Args:
        output: folder to write to.
        slides: number of slides: A01, A02, and so on.
        size: pixels per side.
        mpp: micrometres per pixel.
        seed: random seed of the first slide; each further slide has the next.
        far: also write label maps of the pixels whose class only surroundings beyond 680 micrometres show.
    """
    from ..phantom import write_bach

    path = write_bach(output, slides, size, mpp, seed, far)
    print(f"{slides} slides: {path}")


def phantom_multi_stain(
    output: str,
    annotated: int = 12,
    unlabelled: int = 12,
    validation: int = 6,
    testing: int = 12,
    size: int = 4096,
    mpp: float = 0.5,
    seed: int = 0,
) -> None:
    """Write synthetic breast slides of several stains, scanners and laboratories with bad regions, and a datalist.

    Args:
        output: folder to write to.
        annotated: number of slides for training with completely annotated regions.
        unlabelled: number of slides for training without annotation, for iterative training.
        validation: number of slides for choosing the checkpoint, annotated the same way.
        testing: number of slides with full label maps, half of them of a stain, a scanner or both that no other slide
            has.
        size: pixels per side.
        mpp: micrometres per pixel.
        seed: random seed of the first slide; each further slide has the next.
    """
    from ..phantom import write_multi_stain

    path = write_multi_stain(output, annotated, unlabelled, validation, testing, size, mpp, seed)
    print(f"{annotated + unlabelled + validation + testing} slides, datalist: {path}")
