"""``python -m common …``: phantom (and phantom-camelyon16, -breast-biopsies, -bach, -multi-stain), demo, datalist,
inspect, score, compare, roc, froc, activations, features, augmentations, report, export, verify, cohort,
cohort-estimate, convert-released."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fire
from fire.decorators import SetParseFns

_BUNDLES = Path(__file__).resolve().parent.parent / "bundles"
_BUNDLE = str(_BUNDLES / "pathology_dmmn_segmentation")
_MRN = str(_BUNDLES / "pathology_mrn_segmentation")
_MULTILEVEL = str(_BUNDLES / "pathology_multilevel_unet_segmentation")
_ENCDEC = str(_BUNDLES / "pathology_multires_encdec_segmentation")


def phantom(
    out: str,
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
        out: folder to write to.
        training: how many slides, labelled by partial annotations.
        validation: as many for choosing the checkpoint.
        testing: as many labelled by their full label maps.
        size: pixels a side.
        mpp: micrometres per pixel.
        seed: slides have this seed, the next, and so on.
        recipe: what they are made of.
        style: how they are annotated: whole components with thin seams, spaced ones, or cropped fields.
    """
    from .phantom import write_phantoms

    path = write_phantoms(out, training, validation, testing, size, mpp, seed, recipe, style)
    print(f"{training + validation + testing} slides, datalist: {path}")


def phantom_camelyon16(
    out: str,
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
        out: folder to write to.
        normal: slides for training without metastases.
        tumour: slides for training with metastases.
        testing: slides for testing, with and without in turn.
        size: pixels a side.
        mpp: micrometres per pixel.
        seed: slides have this seed, the next, and so on.
        labels: also write full label maps, which the data set does not have.
    """
    from .phantom import write_camelyon16

    path = write_camelyon16(out, normal, tumour, testing, size, mpp, seed, labels)
    print(f"{normal + tumour + testing} slides: {path}")


def phantom_breast_biopsies(
    out: str,
    training: int = 24,
    validation: int = 8,
    testing: int = 120,
    size: int = 1280,
    mpp: float = 1.0,
    seed: int = 0,
) -> None:
    """Write synthetic regions of interest with eight tissue labels and four diagnoses, several per case.

    Args:
        out: folder to write to.
        training: regions for training.
        validation: regions for choosing the checkpoint.
        testing: regions for scores and diagnosis.
        size: pixels a side; of each region and side between three and five quarters of that.
        mpp: micrometres per pixel.
        seed: of everything.
    """
    from .phantom import write_breast_biopsies

    path = write_breast_biopsies(out, training, validation, testing, size, mpp, seed)
    print(f"{training + validation + testing} regions, datalist: {path}")


def phantom_bach(
    out: str, slides: int = 10, size: int = 8192, mpp: float = 2.0, seed: int = 0, far: bool = False
) -> None:
    """Write synthetic breast slides as BACH hands out its whole slides, in regions of several millimetres.

    Args:
        out: folder to write to.
        slides: how many: A01, A02, and so on.
        size: pixels a side.
        mpp: micrometres per pixel.
        seed: slides have this seed, the next, and so on.
        far: also write label maps of what only its surroundings beyond 680 micrometres tell.
    """
    from .phantom import write_bach

    path = write_bach(out, slides, size, mpp, seed, far)
    print(f"{slides} slides: {path}")


def phantom_multi_stain(
    out: str,
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
        out: folder to write to.
        annotated: slides for training with completely annotated regions.
        unlabelled: slides for training without annotation, for iterative training.
        validation: as annotated, for choosing the checkpoint.
        testing: slides with full label maps, half of them of a stain, a scanner or both that are in no other slide.
        size: pixels a side.
        mpp: micrometres per pixel.
        seed: slides have this seed, the next, and so on.
    """
    from .phantom import write_multi_stain

    path = write_multi_stain(out, annotated, unlabelled, validation, testing, size, mpp, seed)
    print(f"{annotated + unlabelled + validation + testing} slides, datalist: {path}")


def demo(slide: str | None = None, mpp: float | None = None, output: str = "output/demo") -> None:
    """Segment a phantom and score it, or segment your own slide, with the DMMN demo checkpoint.

    Args:
        slide: your slide; without it, a phantom is made.
        mpp: micrometres per pixel of your slide, in place of what the file says.
        output: folder for everything that is made.
    """
    from .demo import demo as run_demo

    run_demo(slide, mpp, output)


def score(
    prediction: str,
    truth: str,
    slide: str,
    bundle: str = _BUNDLE,
    mpp: float | None = None,
    output: str | None = None,
) -> None:
    """Score a slide's prediction.tif against an annotation: scores.json, scores.csv, confusion.png.

    Args:
        prediction: the prediction.tif.
        truth: annotation of the slide.
        slide: the slide.
        bundle: whose class scheme is meant.
        mpp: micrometres per pixel of the slide, in place of what the file says.
        output: folder to write to; beside the prediction by default.
    """
    from .annotations import read_annotations
    from .configs import bundle_settings
    from .evaluation import score_slide
    from .reports import ScoreReport
    from .slides import open_slide

    scheme = bundle_settings(bundle, ["inference.yaml"], ["scheme"])["scheme"]
    folder = Path(output) if output else Path(prediction).parent / "scores"
    with open_slide(slide, mpp=mpp) as opened:
        matrix = score_slide(opened, prediction, read_annotations(truth, scheme), scheme)
    figures = ScoreReport(scheme, matrix[None], [{"image": slide}]).write(folder)
    print(f"mean IoU {figures['mean_iou']:.4f}, pixel accuracy {figures['pixel_accuracy']:.4f}: {folder}")


def compare(
    *runs: str,
    datalist: str,
    out: str = "comparison",
    section: str = "testing",
    classes: str | tuple[str, ...] | None = None,
    bundle: str = _BUNDLE,
    config: str | tuple[str, ...] = ("inference.yaml",),
    name_by: str | None = None,
    evaluated: str | None = None,
) -> None:
    """Score several models' predictions of the same slides: one table, and pictures side by side.

    Args:
        runs: output folders of inference.yaml, each of one model; named by the folder, or as TITLE=FOLDER.
        datalist: slides and their annotations.
        out: folder for comparison.csv, comparison.json and a picture per slide.
        section: of the datalist.
        classes: those that count; all by default.
        bundle: whose classes are meant.
        config: its config, or several, later ones laid over earlier ones; paths of your own overlays too.
        name_by: column of the datalist that named the runs' folders, if one did.
        evaluated: output folders of evaluate.yaml, as TITLE=FOLDER, separated by commas: their scores over patches go
            into the same table.
    """
    from .comparison import compare_runs
    from .configs import bundle_settings

    titled = _titled(runs, "compare RUN… --datalist DATALIST")
    scheme = bundle_settings(bundle, _listed(config), ["scheme"])["scheme"]
    chosen = None if classes is None else _listed(classes)
    patches = None if evaluated is None else _titled(_separated(evaluated), "compare … --evaluated TITLE=FOLDER")
    table = compare_runs(titled, datalist, scheme, out, section, chosen, name_by, patches)
    print(table.round(3).to_string(index=False))
    print(f"{Path(out) / 'comparison.csv'}, and a picture of each slide beside it")


def roc(*runs: str, out: str = "roc") -> None:
    """Lay the ROC curves of several evaluations into one picture and one table.

    Args:
        runs: output folders of evaluate.yaml, each of one model; named by the folder, or as TITLE=FOLDER.
        out: folder for roc.png and roc_comparison.csv.
    """
    from .roc_report import compare_curves

    table = compare_curves(_titled(runs, "roc RUN…"), out)
    print(table.round(4).to_string(index=False))
    print(f"{Path(out) / 'roc.png'}, and roc_comparison.csv beside it")


def froc(
    *runs: str,
    datalist: str,
    out: str = "froc",
    section: str = "testing",
    mpp: float = 8.0,
    box: float = 384.0,
    probability: float = 0.5,
    smallest: int = 200,
    grown: int = 75,
    bundle: str = _MRN,
    config: str | tuple[str, ...] = ("inference.yaml",),
    name_by: str | None = None,
) -> None:
    """Score how well lesions are found: sensitivity at so many false positives per slide, as CAMELYON16 does.

    Args:
        runs: output folders of inference.yaml with probabilities.zarr; named by the folder, or as TITLE=FOLDER.
        datalist: slides and their exhaustive annotations.
        out: folder for froc.csv and froc.json.
        section: of the datalist.
        mpp: micrometres per pixel at which maps are compared.
        box: micrometres a side around a detection in which there is no other.
        probability: least probability of a detection.
        smallest: largest diameter in micrometres of isolated tumour cells, which do not count.
        grown: lesions nearer than this many micrometres to each other are one.
        bundle: whose classes are meant.
        config: its config, or several, later ones laid over earlier ones; paths of your own overlays too.
        name_by: column of the datalist that named the runs' folders, if one did.
    """
    from .configs import bundle_settings
    from .lesions import lesion_froc

    titled = _titled(runs, "froc RUN… --datalist DATALIST")
    scheme = bundle_settings(bundle, _listed(config), ["scheme"])["scheme"]
    table = lesion_froc(titled, datalist, scheme, out, section, mpp, box, probability, smallest, grown, name_by)
    print(table.round(3).to_string(index=False))
    print(f"{Path(out) / 'froc.csv'}, and the curves in froc.json beside it")


def activations(
    slide: str,
    *models: str,
    center: tuple[float, float],
    layers: str | tuple[str, ...],
    out: str = "activations.png",
    bundle: str = _ENCDEC,
    mpp: float | None = None,
) -> None:
    """Draw what layers of networks show of one patch of a slide, a row per network.

    Args:
        slide: the slide.
        models: TITLE=CHECKPOINT, or TITLE=CHECKPOINT+CONFIG+… with configs laid over the bundle's inference.yaml.
        center: row and column of the patch's centre in level-0 pixels, as 500,700.
        layers: names of the networks' modules, separated by commas.
        out: the picture.
        bundle: the networks' bundle.
        mpp: micrometres per pixel of the slide, in place of what the file says.
    """
    from .activations import draw_activations

    named = {title: model.split("+") for title, model in _titled(models, "activations SLIDE MODEL…").items()}
    parsed = {title: (parts[0], parts[1:]) for title, parts in named.items()}
    draw_activations(slide, center, parsed, _separated(layers), bundle, out, mpp)
    print(out)


def augmentations(
    datalist: str,
    out: str = "augmentations",
    bundle: str = _MULTILEVEL,
    config: str | tuple[str, ...] = (),
    styled: str | None = None,
    patches: int = 64,
    seed: int = 0,
) -> None:
    """Draw what a bundle's augmentations make of patches of a datalist, and the range of hue and saturation before and
    after.

    Args:
        datalist: its path.
        out: folder for augmentations.png, hue_saturation.png and hue_saturation.csv.
        bundle: whose train.yaml has the augmentations.
        config: configs laid over it; paths of your own overlays too.
        styled: folder of slides in other styles, as configs/style_transfer.yaml writes them.
        patches: to take hue and saturation of.
        seed: of the draws.
    """
    from .augmentation_report import AugmentationReport

    table = AugmentationReport(datalist, bundle, _listed(config), patches, seed).write(out, styled)
    print(table.round(1).to_string(index=False))
    print(f"{Path(out) / 'augmentations.png'}, hue_saturation.png and .csv beside it")


def features(
    datalist: str,
    out: str = "features",
    bundle: str = _MULTILEVEL,
    config: str | tuple[str, ...] = (),
    checkpoint: str | None = None,
    module: str = "fine_encoder",
    encoder: str | None = None,
    weights: str | None = None,
    by: str | tuple[str, ...] = ("stain", "scanner", "source"),
    patches: int = 20,
    seed: int = 0,
) -> None:
    """Draw patches of a datalist's slides in two dimensions by an encoder's features: UMAP where umap-learn is
    installed, else PCA.

    Args:
        datalist: its path.
        out: folder for features.png and features.csv.
        bundle: whose network's encoder is meant.
        config: configs laid over the bundle's inference.yaml; paths of your own overlays too.
        checkpoint: of the network.
        module: the encoder's name in it.
        encoder: a ResNet instead, such as resnet50.
        weights: its state dict, as torchvision's.
        by: columns of the datalist to colour by.
        patches: of each slide at most.
        seed: of the draw.
    """
    from .features import bundle_encoder, draw_features, finest_view, resnet_encoder

    if encoder is None:
        network, view = bundle_encoder(bundle, _listed(config), checkpoint, module)
    else:
        network, view = resnet_encoder(encoder, weights), finest_view(bundle, _listed(config))
    table = draw_features(datalist, network, view, out, _separated(by), patches, seed=seed)
    print(table.round(3).to_string(index=False))
    print(f"{Path(out) / 'features.png'}, and a row per patch in features.csv")


def _titled(runs: Sequence[str], usage: str) -> dict[str, str]:
    """Folders by title, from TITLE=FOLDER or FOLDER."""
    if not runs:
        raise ValueError(f"name at least one run: python -m common {usage}")
    folders: dict[str, str] = {}
    for run in runs:
        title, folder = run.split("=", 1) if "=" in run else (Path(run).name, run)
        if title in folders:
            raise ValueError(f"two runs are called {title}: {folders[title]} and {folder}. Name them as TITLE=FOLDER")
        folders[title] = folder
    return folders


def _separated(value: str | Sequence[str]) -> list[str]:
    """What stood between commas; of some of it fire makes one string, of some a tuple."""
    return value.split(",") if isinstance(value, str) else list(value)


def _listed(value: str | Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def datalist_folder(
    slides: str,
    annotations: str,
    out: str = "datalist.json",
    validation: float = 0.2,
    testing: float = 0.2,
    patient: str | None = None,
    table: str | None = None,
    split_by: str | None = None,
    seed: int = 0,
) -> None:
    """Write a datalist of the slides in a folder and their annotations in another (or the same), paired by name.

    Args:
        slides: folder of slides.
        annotations: folder of annotations.
        out: the datalist to write.
        validation: share of the slides that pick the checkpoint.
        testing: share of the slides that are kept for the end.
        patient: regular expression whose first group, in a slide's name, is its patient; patients are not divided.
        table: CSV with a column slide; its other columns (patient, stain, scanner, ...) go into the datalist.
        split_by: column whose slides stay together; patient by default where there is one.
        seed: of the split.
    """
    from .data import datalist_from_folders

    path, pairing, counts = datalist_from_folders(
        slides, annotations, out, validation, testing, patient, table, split_by, seed
    )
    for left_over, what in (
        (pairing.slides_alone, "no annotation for"),
        (pairing.annotations_alone, "no slide for"),
    ):
        for name in left_over:
            print(f"left out, {what} {name}")
    print(f"{', '.join(f'{count} {name}' for name, count in counts.items())}: {path}")


def datalist_camelyon16(root: str, out: str = "datalist.json", validation: float = 0.2, seed: int = 0) -> None:
    """Write a datalist of CAMELYON16 in the folders it is handed out in; tissue that is not annotated is normal.

    Args:
        root: the data set's folder.
        out: the datalist to write.
        validation: share of the training slides that pick the checkpoint.
        seed: of the split.
    """
    from .data import datalist_from_camelyon16

    found = datalist_from_camelyon16(root, out, validation, seed)
    for sentence in found.missing:
        print(f"missing: {sentence}")
    for name, reason in found.left_out.items():
        print(f"left out: {name}, {reason}")
    for section, counts in found.counts.items():
        print(f"{section}: {', '.join(f'{count} {kind}' for kind, count in counts.items())}")
    print(found.path)


def datalist_bach(root: str, out: str = "datalist.json", a01: str | None = None) -> None:
    """Write a datalist of BACH's annotated whole slides with the split of Li et al. 2020; what is not annotated in
    tissue is normal.

    Args:
        root: the challenge's folder.
        out: the datalist to write.
        a01: section for the slide A01, which is in none of the paper's.
    """
    from .data import datalist_from_bach

    found = datalist_from_bach(root, out, a01)
    for sentence in found.missing:
        print(f"missing: {sentence}")
    for name, reason in found.left_out.items():
        print(f"left out: {name}, {reason}")
    for section, names in found.sections.items():
        print(f"{section}: {', '.join(names) or 'none'}")
    print(found.path)


def datalist_folds(
    datalist: str,
    out: str = "folds",
    folds: int = 5,
    by: str = "case",
    alike: str | None = None,
    validation: float = 0.2,
    seed: int = 0,
) -> None:
    """Deal a datalist's entries to folds for cross-validation; entries of one case stay together.

    Args:
        datalist: its path; all sections are dealt.
        out: folder for fold_1.json, fold_2.json, ...
        folds: how many.
        by: column whose entries stay together.
        alike: column, such as the diagnosis, of whose values every fold gets about as many.
        validation: share of what is not tested that picks the checkpoint.
        seed: of how cases are dealt.
    """
    from .data import filled_sections, load_sections, write_folds

    for path in write_folds(datalist, out, folds, by, alike, validation=validation, seed=seed):
        counts = {section: len(load_sections(path, [section])) for section in filled_sections(path)}
        print(f"{', '.join(f'{count} {section}' for section, count in counts.items())}: {path}")


def inspect(
    datalist: str,
    out: str = "inspection",
    bundle: str = _BUNDLE,
    config: str | tuple[str, ...] = ("train.yaml",),
    patches: int = 16,
    by: str | tuple[str, ...] = (),
) -> None:
    """Look a datalist over before training: a table, a contact sheet, and everything that would go wrong.

    Leaves with a non-zero exit code if something is wrong.

    Args:
        datalist: its path.
        out: folder for slides.csv and contact_sheet.png.
        bundle: whose classes and fields of view are meant.
        config: its config, or several, later ones laid over earlier ones; paths of your own overlays too.
        patches: so many annotated patches of each slide are read as in training; -1 reads all.
        by: columns of the datalist (stain, scanner, ...): distribution.png and distribution.csv say how much of each
            class is annotated in each section and for each of their values.
    """
    from .inspection_report import report

    if not report(datalist, out, bundle, _listed(config), patches, _separated(by) if by else []):
        raise SystemExit(1)


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


@SetParseFns(name=str, trained_on=str, version=str, changes=str)
def export(
    bundle: str,
    checkpoint: str,
    out: str | None = None,
    huggingface: str | None = None,
    config: str | tuple[str, ...] = (),
    name: str | None = None,
    trained_on: str | None = None,
    version: str | None = None,
    changes: str | None = None,
    metadata: str | None = None,
    formats: str | tuple[str, ...] = (),
    large_files_url: str | None = None,
    license: str | None = None,
) -> None:
    """Write a bundle that runs without this project: a zip, a folder for Hugging Face, or both.

    Args:
        bundle: its folder.
        checkpoint: the weights, as train.yaml writes them.
        out: the zip.
        huggingface: the folder.
        config: overlays that the checkpoint was trained with, such as demo.yaml; paths of your own overlays too.
        name: of the exported bundle; the bundle's by default.
        trained_on: a sentence on what the weights were trained on, and under what licence.
        version: its version number; the bundle's by default.
        changes: what is new in that version.
        metadata: JSON or YAML with further fields of metadata.json (authors, intended_use, eval_metrics, ...).
        formats: further files of the network: ts (TorchScript), pt2 (torch.export), onnx; several with commas.
        large_files_url: where files above 25 MB will lie, for large_files.yml.
        license: of the weights, as Hugging Face spells it, for the model card.
    """
    from .sharing import ExportOptions, export_bundle

    kinds = _separated(formats) if formats else ()
    chosen = ExportOptions(
        _separated(config), name, trained_on, version, changes, metadata, kinds, large_files_url, license
    )
    written = export_bundle(bundle, checkpoint, out, huggingface, chosen)
    print(f"exported: {written}\ncheck it: python -m common verify {written}")


def verify(bundle: str, schema: str | None = None, run: bool = True) -> None:
    """Check a bundle's folder or zip for handing it on. Leaves with a non-zero exit code if something is wrong.

    Args:
        bundle: folder or zip.
        schema: the Model Zoo's metadata schema, to check against it too.
        run: also run it on a synthetic slide, without this project; what a bundle holds is code.
    """
    from .sharing import verify_bundle

    found = verify_bundle(bundle, schema, run)
    print("\n".join(map(str, found)))
    if any(finding.problems for finding in found):
        raise SystemExit(1)


def report(
    output_dir: str,
    out: str | None = None,
    slides: str | None = None,
    name_by: str | None = None,
    longest: int = 2000,
) -> None:
    """Write one HTML page of a run: slides that zoom, areas, scores, curves, pictures and settings.

    Args:
        output_dir: a run's folder.
        out: the page; report.html in the folder by default.
        slides: the segmented slides (path, glob or datalist): their pixels are shown below the classes.
        name_by: column of the datalist that named the slides' folders, if one did.
        longest: side in pixels of a slide's picture.
    """
    from .html_report import write_report

    print(write_report(output_dir, out, slides, name_by, longest))


@SetParseFns(bundle=str, slides=str, output=str, ray=str, cache=str, name_by=str)
def cohort(
    bundle: str,
    slides: str,
    output: str,
    config: str | tuple[str, ...] = (),
    section: str = "testing",
    name_by: str | None = None,
    mpp: float | None = None,
    ray: str | None = None,
    workers: int | None = None,
    cpus: int | None = None,
    gpus: int | None = None,
    cache: str | None = None,
    cache_gb: float = 50.0,
    retries: int = 3,
    split_mb: float = 200.0,
    **settings: Any,
) -> None:
    """Segment many slides, on this machine or a Ray cluster. Leaves with a non-zero exit code if any failed.

    Args:
        bundle: its folder, at the same place on all machines.
        slides: datalist, table (CSV with a column image), list of slides (.txt), slide or glob; path or URL (s3://,
            gs://, https://).
        output: folder that all machines share, or a URL.
        config: overlays on the bundle's inference.yaml, such as demo.yaml; paths of your own overlays too.
        section: of a datalist.
        name_by: column that names the output folders; the file's name by default.
        mpp: micrometres per pixel of slides whose entry says none, in place of what the file says.
        ray: address of a Ray cluster; auto finds the one that this machine is of.
        workers: how many; by default one per GPU, or one per machine without.
        cpus: processors of each.
        gpus: of each, 0 or 1; by default 1 where there are any.
        cache: local folder for slides and outputs on their way.
        cache_gb: gigabytes of slides in it at most.
        retries: how often a slide is tried again after what may pass.
        split_mb: slides of less than so many megabytes are never split among workers.
        settings: keys of the configs, as --tissue True.
    """
    from .cohort.account import FAILED, LEFT, SUMS, TABLE, shown_failures
    from .cohort.run import CohortOptions, run_cohort

    configs = ("inference.yaml", *_separated(config))
    options = CohortOptions(
        configs, settings, section, name_by, mpp, ray, workers, cpus, gpus, cache, cache_gb, retries, split_mb
    )
    try:
        account = run_cohort(bundle, slides, output, options)
    except KeyboardInterrupt:
        raise SystemExit(f"stopped. The same command goes on: {output}") from None
    counts = account.counts()
    print(f"{', '.join(f'{count} {status}' for status, count in counts.items() if count)}: {output}")
    print(f"a row per slide in {TABLE}, what was made in {SUMS}")
    if counts[FAILED] or counts[LEFT]:
        raise SystemExit(shown_failures(account))


@SetParseFns(measured=str)
def cohort_estimate(
    slides: int = 100_000,
    measured: str | None = None,
    seconds_per_mm2: float | None = None,
    mm2: float | None = None,
    slide_gb: float | None = None,
    output_gb: float | None = None,
    seconds_per_slide: float | None = None,
    gbit: float = 10.0,
    worker_gbit: float = 10.0,
    dispatched: float = 50.0,
    workers: int | tuple[int, ...] = (1, 4, 16, 64, 256, 1024),
) -> None:
    """Say how long a large cohort will take, from what a small one took or from figures of your own.

    Args:
        slides: how many.
        measured: output of a finished cohort (path or URL), which the figures below are read off where not given.
        seconds_per_mm2: of one worker, for a mm² that is predicted.
        mm2: predicted of a slide.
        slide_gb: gigabytes of a slide.
        output_gb: gigabytes of its outputs.
        seconds_per_slide: of one worker beside.
        gbit: Gbit/s between the store and all workers.
        worker_gbit: Gbit/s of one worker.
        dispatched: slides per second that the driver gives out at most.
        workers: several with commas.
    """
    from .cohort.estimate import costs_of, table_of

    given = {
        "seconds_per_mm2": seconds_per_mm2,
        "mm2": mm2,
        "slide_bytes": None if slide_gb is None else slide_gb * 1e9,
        "output_bytes": None if output_gb is None else output_gb * 1e9,
        "seconds_per_slide": seconds_per_slide,
    }
    costs = costs_of(measured, {name: value for name, value in given.items() if value is not None})
    counts = (workers,) if isinstance(workers, int) else workers
    print(
        f"a slide: {costs.mm2:.4g} mm² in {costs.seconds:.4g} s of one worker ({costs.seconds_per_mm2:.3g} s/mm²), "
        f"{costs.slide_bytes / 1e9:.3g} GB come, {costs.output_bytes / 1e9:.3g} GB go"
    )
    print(table_of(costs, slides, gbit, worker_gbit, dispatched, counts).round(1).to_string(index=False))
    print(f"more than {costs.most_workers(gbit, dispatched)} workers make it no faster")


def main() -> None:
    """Entry point; expected errors are one line, not a traceback."""
    from .errors import UnreadableFileError

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        fire.Fire(
            {
                "phantom": phantom,
                "phantom-camelyon16": phantom_camelyon16,
                "phantom-breast-biopsies": phantom_breast_biopsies,
                "phantom-bach": phantom_bach,
                "phantom-multi-stain": phantom_multi_stain,
                "demo": demo,
                "score": score,
                "compare": compare,
                "roc": roc,
                "froc": froc,
                "activations": activations,
                "features": features,
                "augmentations": augmentations,
                "datalist": {
                    "folder": datalist_folder,
                    "camelyon16": datalist_camelyon16,
                    "bach": datalist_bach,
                    "folds": datalist_folds,
                },
                "inspect": inspect,
                "report": report,
                "export": export,
                "verify": verify,
                "cohort": cohort,
                "cohort-estimate": cohort_estimate,
                "convert-released": convert_released,
            },
            name="python -m common",
        )
    except (UnreadableFileError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
