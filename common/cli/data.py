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
        class_map: classes of annotations and what they are in the bundle, as "{'Tumor': 'carcinoma', 'Other': null}";
            null leaves a class unlabelled.
        bundle: name (dmmn, mrn, ...) or folder of the bundle that is to be trained.
        config: overlays on its train.yaml, separated by commas: names in its configs, or paths.
        validation: share of the slides that pick the checkpoint.
        testing: share of the slides that are kept for the end.
        patient: regular expression whose first group, in a slide's name, is its patient; patients are not divided.
        table: CSV with a column slide; its other columns (patient, stain, scanner, ...) go into the datalist.
        split_by: column whose slides stay together; patient by default where there is one.
        seed: random seed of the split.
        origin: from where annotations count on slides with bounds (MIRAX, SCN, ...), slide or bounds; by default what
            puts them on tissue.
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
    """Write a datalist of CAMELYON16 in the folders it is handed out in; tissue that is not annotated is normal.

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


def datalist_bach(root: str, output: str = "datalist.json", a01: str | None = None) -> None:
    """Write a datalist of BACH's annotated whole slides with the split of Li et al. 2020; what is not annotated in
    tissue is normal.

    Args:
        root: the challenge's folder.
        output: the datalist to write.
        a01: section for the slide A01, which is in none of the paper's.
    """
    from ..data import datalist_from_bach

    found = datalist_from_bach(root, output, a01)
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
    """Deal a datalist's entries to folds for cross-validation; entries of one case stay together.

    Args:
        datalist: its path; all sections are dealt.
        output: folder for fold_1.json, fold_2.json, ...
        folds: how many.
        by: column whose entries stay together.
        alike: column, such as the diagnosis, of whose values every fold gets about as many.
        validation: share of what is not tested that picks the checkpoint.
        seed: random seed of how cases are dealt.
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
    """Inspect a datalist before training: a table, a contact sheet, what stops training, and advice.

    Leaves with exit code 1 if something stops training; advice alone does not.

    Args:
        datalist: its path.
        output: folder for slides.csv and contact_sheet.png.
        bundle: name (dmmn, mrn, ...) or folder of the bundle that is to be trained.
        config: overlays on its train.yaml, separated by commas: names in its configs, or paths.
        patches: so many annotated patches of each slide are read as in training; -1 reads all.
        by: columns of the datalist (stain, scanner, ...): distribution.png and distribution.csv say how much of each
            class is annotated in each section and for each of their values.
    """
    from ..reports.inspection import report

    if not report(datalist, output, bundle, ["train.yaml", *listed(config)], patches, listed(by)):
        raise SystemExit(1)


def _print_gaps(found: Any) -> None:
    """Print what a data set lacks and what of it was left out."""
    for sentence in found.missing:
        print(f"missing: {sentence}")
    for name, reason in found.left_out.items():
        print(f"left out: {name}, {reason}")


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
