"""Look at results: tables, curves, pictures, a page."""

from __future__ import annotations

from pathlib import Path

from .values import listed, titled


def report(
    results: str,
    output: str | None = None,
    slides: str | None = None,
    name_by: str | None = None,
    longest: int = 2000,
    mpp: float | None = None,
    series: int | None = None,
) -> None:
    """Write one HTML page of a run: slides that zoom, areas, scores, curves, pictures and settings.

    Args:
        results: output folder of a run.
        output: page to write; by default report.html in that folder.
        slides: the segmented slides (path, glob or datalist), to show their pixels below the classes.
        name_by: column of the datalist that named the slides' folders, if one did.
        longest: longest side of a slide's picture, in pixels.
        mpp: micrometres per pixel of the slides, if it was given to segment them.
        series: number of the image in the slides' files, if it was given to segment them.
    """
    from ..reports.html import write_report

    print(write_report(results, output, slides, name_by, longest, mpp, series))


def compare(
    *runs: str,
    datalist: str,
    output: str = "comparison",
    section: str = "testing",
    classes: str | tuple[str, ...] | None = None,
    bundle: str = "dmmn",
    config: str | tuple[str, ...] = (),
    name_by: str | None = None,
    evaluated: str | None = None,
) -> None:
    """Score several models' predictions of the same slides: one table, and pictures side by side.

    Args:
        runs: output folders of inference.yaml, each of one model; named by the folder, or as TITLE=FOLDER.
        datalist: slides and their annotations.
        output: folder for comparison.csv, comparison.json and a picture per slide.
        section: section of the datalist.
        classes: classes that count; all by default.
        bundle: name (dmmn, mrn, ...) or folder of the bundle that defines the classes.
        config: overlays on its inference.yaml, separated by commas: names in its configs, or paths.
        name_by: column of the datalist that named the runs' folders, if one did.
        evaluated: output folders of evaluate.yaml, as TITLE=FOLDER, separated by commas, whose scores over patches go
            into the same table.
    """
    from ..bundle.parser import bundle_settings
    from ..evaluation.comparison import compare_runs

    folders = titled(runs, "compare RUN… --datalist DATALIST")
    scheme = bundle_settings(bundle, ["inference.yaml", *listed(config)], ["scheme"])["scheme"]
    chosen = None if classes is None else listed(classes)
    patches = None if evaluated is None else titled(listed(evaluated), "compare … --evaluated TITLE=FOLDER")
    table = compare_runs(folders, datalist, scheme, output, section, chosen, name_by, patches)
    print(table.round(3).to_string(index=False))
    print(f"{Path(output) / 'comparison.csv'}, and a picture of each slide in the same folder")


def score(
    prediction: str,
    truth: str,
    slide: str,
    bundle: str = "dmmn",
    mpp: float | None = None,
    output: str | None = None,
    origin: str | None = None,
    series: int | None = None,
) -> None:
    """Score a slide's prediction.tif against an annotation: scores.json, scores.csv, confusion.png.

    Args:
        prediction: the prediction.tif.
        truth: annotation of the slide.
        slide: the slide.
        bundle: name (dmmn, mrn, ...) or folder of the bundle that defines the classes.
        mpp: micrometres per pixel of the slide, instead of the file's.
        output: folder to write to; by default scores, next to the prediction.
        origin: origin of the annotation's coordinates, slide or bounds: QuPath's exports of slides with bounds (MIRAX,
            SCN) count from the bounds.
        series: number of the image, in a slide file of several, from 0.
    """
    from ..bundle.parser import bundle_settings
    from ..evaluation.single import score_prediction

    scheme = bundle_settings(bundle, ["inference.yaml"], ["scheme"])["scheme"]
    results, folder = score_prediction(prediction, truth, slide, scheme, output, mpp, origin, series)
    print(f"mean IoU {results['mean_iou']:.4f}, pixel accuracy {results['pixel_accuracy']:.4f}: {folder}")


def roc(*runs: str, output: str = "roc") -> None:
    """Draw the ROC curves of several evaluations in one picture, with one table.

    Args:
        runs: output folders of evaluate.yaml, each of one model; named by the folder, or as TITLE=FOLDER.
        output: folder for roc.png and roc_comparison.csv.
    """
    from ..reports.roc import compare_curves

    table = compare_curves(titled(runs, "roc RUN…"), output)
    print(table.round(4).to_string(index=False))
    print(f"{Path(output) / 'roc.png'}, and roc_comparison.csv in the same folder")


def froc(
    *runs: str,
    datalist: str,
    output: str = "froc",
    section: str = "testing",
    mpp: float = 8.0,
    nms_box: float = 384.0,
    probability: float = 0.5,
    itc_diameter: int = 200,
    merge_distance: int = 75,
    bundle: str = "mrn",
    config: str | tuple[str, ...] = (),
    name_by: str | None = None,
) -> None:
    """Score the detection of lesions as CAMELYON16 does: sensitivity at numbers of false positives per slide.

    Args:
        runs: output folders of inference.yaml with probabilities.zarr; named by the folder, or as TITLE=FOLDER.
        datalist: slides and their exhaustive annotations.
        output: folder for froc.csv and froc.json.
        section: section of the datalist.
        mpp: micrometres per pixel at which maps are compared.
        nms_box: side in micrometres of the box around a detection that holds no other (non-maximum suppression).
        probability: lowest probability of a detection.
        itc_diameter: largest diameter in micrometres of isolated tumour cells, which do not count.
        merge_distance: distance in micrometres below which lesions are one.
        bundle: name (dmmn, mrn, ...) or folder of the bundle that defines the classes.
        config: overlays on its inference.yaml, separated by commas: names in its configs, or paths.
        name_by: column of the datalist that named the runs' folders, if one did.
    """
    from ..bundle.parser import bundle_settings
    from ..evaluation.froc import lesion_froc

    folders = titled(runs, "froc RUN… --datalist DATALIST")
    scheme = bundle_settings(bundle, ["inference.yaml", *listed(config)], ["scheme"])["scheme"]
    limits = (nms_box, probability, itc_diameter, merge_distance)
    table = lesion_froc(folders, datalist, scheme, output, section, mpp, *limits, name_by)
    print(table.round(3).to_string(index=False))
    print(f"{Path(output) / 'froc.csv'}, and the curves in froc.json")


def activations(
    slide: str,
    *models: str,
    center: tuple[float, float],
    layers: str | tuple[str, ...],
    output: str = "activations.png",
    bundle: str = "multires_encdec",
    mpp: float | None = None,
    series: int | None = None,
) -> None:
    """Draw the activations of networks' layers on one patch of a slide, a row per network.

    Args:
        slide: the slide.
        models: TITLE=CHECKPOINT, or TITLE=CHECKPOINT+CONFIG+… with overlays on the bundle's inference.yaml.
        center: row and column of the patch's centre in level-0 pixels, as 500,700.
        layers: names of the networks' modules, separated by commas.
        output: picture to write.
        bundle: name or folder of the networks' bundle.
        mpp: micrometres per pixel of the slide, instead of the file's.
        series: number of the image, in a slide file of several, from 0.
    """
    from ..reports.activations import draw_activations

    named = {title: model.split("+") for title, model in titled(models, "activations SLIDE MODEL…").items()}
    parsed = {title: (parts[0], parts[1:]) for title, parts in named.items()}
    draw_activations(slide, center, parsed, listed(layers), bundle, output, mpp, series)
    print(output)


def augmentations(
    datalist: str,
    output: str = "augmentations",
    bundle: str = "multilevel_unet",
    config: str | tuple[str, ...] = (),
    styled: str | None = None,
    patches: int = 64,
    seed: int = 0,
) -> None:
    """Draw a bundle's augmentations of a datalist's patches, and the range of hue and saturation before and after.

    Args:
        datalist: the datalist.
        output: folder for augmentations.png, hue_saturation.png and hue_saturation.csv.
        bundle: name (dmmn, mrn, ...) or folder of the bundle whose train.yaml has the augmentations.
        config: overlays on it, separated by commas: names in the bundle's configs, or paths.
        styled: folder of slides in other styles, as configs/style_transfer.yaml writes them.
        patches: number of patches whose hue and saturation are measured.
        seed: random seed of patches and augmentations.
    """
    from ..reports.augmentation import AugmentationReport

    table = AugmentationReport(datalist, bundle, listed(config), patches, seed).write(output, styled)
    print(table.round(1).to_string(index=False))
    print(f"{Path(output) / 'augmentations.png'}, hue_saturation.png and .csv")


def features(
    datalist: str,
    output: str = "features",
    bundle: str = "multilevel_unet",
    config: str | tuple[str, ...] = (),
    checkpoint: str | None = None,
    module: str = "fine_encoder",
    encoder: str | None = None,
    weights: str | None = None,
    by: str | tuple[str, ...] = ("stain", "scanner", "source"),
    patches: int = 20,
    seed: int = 0,
) -> None:
    """Draw patches of a datalist's slides in two dimensions by an encoder's features: UMAP if umap-learn is installed,
    else PCA.

    Args:
        datalist: the datalist.
        output: folder for features.png and features.csv.
        bundle: name (dmmn, mrn, ...) or folder of the bundle whose network has the encoder.
        config: overlays on the bundle's inference.yaml, separated by commas: names in its configs, or paths.
        checkpoint: checkpoint of the network.
        module: name of the encoder in the network.
        encoder: a ResNet to use instead, such as resnet50.
        weights: state dict of that ResNet, with torchvision's names.
        by: columns of the datalist to colour by.
        patches: largest number of patches of each slide.
        seed: random seed of the patches.
    """
    from ..reports.features import bundle_encoder, draw_features, finest_view, resnet_encoder

    if encoder is None:
        network, view = bundle_encoder(bundle, listed(config), checkpoint, module)
    else:
        network, view = resnet_encoder(encoder, weights), finest_view(bundle, listed(config))
    table = draw_features(datalist, network, view, output, listed(by), patches, seed=seed)
    print(table.round(3).to_string(index=False))
    print(f"{Path(output) / 'features.png'}, and a row per patch in features.csv")
