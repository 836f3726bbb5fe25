"""Write datalists and inspect them."""

from __future__ import annotations

from typing import Any

from ..files import printable_line
from .values import listed


def datalist_folder(
    slides: str,
    annotations: str,
    output: str = "datalist.json",
    class_map: dict[str, str | None] | None = None,
    bundle: str = "pathology_dmmn_segmentation",
    config: str | tuple[str, ...] = (),
    validation: float = 0.2,
    testing: float = 0.2,
    patient: str | None = None,
    table: str | None = None,
    split_by: str | None = None,
    seed: int = 0,
    origin: str | None = None,
) -> None:
    """Write a datalist of the slides in a folder and their annotations in another (or the same), paired by name.

    Args:
        slides: folder of slides.
        annotations: folder of annotations.
        output: the datalist to write.
        class_map: class of the annotations -> class of the bundle, as "{'Tumor': 'carcinoma', 'Other': null}"; null
            leaves a class unlabelled.
        bundle: name (dmmn, mrn, ...) or folder of the bundle to be trained.
        config: overlays on its train.yaml, separated by commas: names in its configs, or paths.
        validation: share of the slides that pick the checkpoint.
        testing: share of the slides that are kept for testing.
        patient: regular expression whose first group, in a slide's name, is its patient; patients are not split.
        table: CSV with a column slide; its other columns (patient, stain, scanner, ...) go into the datalist.
        split_by: column whose slides stay together; patient by default if there is one.
        seed: random seed of the split.
        origin: origin of annotation coordinates on slides with bounds (MIRAX, SCN, ...), slide or bounds; by default
            the one that puts annotations on tissue.
    """
    from ..bundle.find import find_bundle
    from ..bundle.parser import bundle_settings
    from ..data.folders import datalist_from_folders, folder_remarks

    owner = find_bundle(bundle).resolve().name
    scheme = bundle_settings(bundle, ["train.yaml", *listed(config)], ["scheme"])["scheme"]
    split = (validation, testing, patient, table, split_by, seed)
    path, pairing, counts = datalist_from_folders(slides, annotations, output, *split, class_map, scheme, owner, origin)
    remarks = [*folder_remarks(pairing, scheme, owner, class_map), f"{_counted(counts)}: {path}"]
    print("\n".join(map(printable_line, remarks)))


def datalist_camelyon16(root: str, output: str = "datalist.json", validation: float = 0.2, seed: int = 0) -> None:
    """Write a datalist of CAMELYON16 from its original folders; tissue without annotation is normal.

    Args:
        root: the data set's folder.
        output: the datalist to write.
        validation: share of the training slides that pick the checkpoint.
        seed: random seed of the split.
    """
    from ..data import datalist_from_camelyon16

    found = datalist_from_camelyon16(root, output, validation, seed)
    _print_gaps(found)
    for section, counts in found.counts.items():
        print(f"{section}: {_counted(counts)}")
    print(found.path)


def datalist_bach(
    root: str, output: str = "datalist.json", a01: str | None = None, normal_within: str = "slide"
) -> None:
    """Write a datalist of BACH's annotated whole slides with the split of Li et al. 2020; what is not annotated is
    normal.

    Args:
        root: the challenge's folder.
        output: the datalist to write.
        a01: section for the slide A01, which is in none of the paper's.
        normal_within: slide, where glass is normal, too, as the challenge scores it; or tissue, where glass has no
            label.
    """
    from ..data import datalist_from_bach

    found = datalist_from_bach(root, output, a01, normal_within)
    _print_gaps(found)
    for section, names in found.sections.items():
        print(f"{section}: {', '.join(names) or 'none'}")
    print(found.path)


def datalist_folds(
    datalist: str,
    output: str = "folds",
    folds: int = 5,
    by: str = "case",
    alike: str | None = None,
    validation: float = 0.2,
    seed: int = 0,
) -> None:
    """Assign a datalist's entries to folds for cross-validation; entries of one case stay together.

    Args:
        datalist: the datalist, of which all sections are used.
        output: folder for fold_1.json, fold_2.json, ...
        folds: number of folds.
        by: column whose entries stay together.
        alike: column, such as the diagnosis, to stratify by: every fold gets about as many entries of each value.
        validation: share of the entries outside the tested fold that picks the checkpoint.
        seed: random seed of the assignment.
    """
    from ..data import load_sections, standard_sections, write_folds

    for path in write_folds(datalist, output, folds, by, alike, validation=validation, seed=seed):
        counts = {section: len(load_sections(path, [section])) for section in standard_sections(path)}
        print(f"{_counted(counts)}: {path}")


def inspect(
    datalist: str,
    output: str = "inspection",
    bundle: str = "pathology_dmmn_segmentation",
    config: str | tuple[str, ...] = (),
    patches: int = 16,
    by: str | tuple[str, ...] = (),
) -> None:
    """Inspect a datalist before training: a table, a contact sheet, problems that stop training, and advice.

    Exits with code 1 if a problem stops training, and with 0 if there is only advice.

    Args:
        datalist: the datalist.
        output: folder for slides.csv and contact_sheet.png.
        bundle: name (dmmn, mrn, ...) or folder of the bundle to be trained.
        config: overlays on its train.yaml, separated by commas: names in its configs, or paths.
        patches: number of annotated patches of each slide to read as in training; -1 reads all.
        by: columns of the datalist (stain, scanner, ...): distribution.png and distribution.csv show how much of each
            class is annotated in each section and for each of their values.
    """
    from ..reports.inspection import report

    if not report(datalist, output, bundle, ["train.yaml", *listed(config)], patches, listed(by)):
        raise SystemExit(1)


def _print_gaps(found: Any) -> None:
    """Print the missing and the left out parts of a data set."""
    for sentence in found.missing:
        print(f"missing: {sentence}")
    for name, reason in found.left_out.items():
        print(f"left out: {name}, {reason}")


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
