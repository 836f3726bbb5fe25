"""The commands of ``multimag`` (also ``python -m common``), grouped by purpose."""

from __future__ import annotations

from .cli.dispatch import run
from .cli.encoding import use_utf8

# Group -> command -> module of common.cli and its function. Further words make a command of several.
COMMANDS = {
    "segment": {
        "segment": "segment:segment",
        "cohort": "cohort:cohort",
        "cohort-estimate": "cohort:cohort_estimate",
    },
    "train": {
        "datalist folder": "data:datalist_folder",
        "datalist folds": "data:datalist_folds",
        "datalist camelyon16": "data:datalist_camelyon16",
        "datalist bach": "data:datalist_bach",
        "inspect": "data:inspect",
        "train": "train:train",
        "evaluate": "train:evaluate",
    },
    "look": {
        "report": "look:report",
        "compare": "look:compare",
        "score": "look:score",
        "roc": "look:roc",
        "froc": "look:froc",
        "activations": "look:activations",
        "augmentations": "look:augmentations",
        "features": "look:features",
    },
    "share": {
        "bundles": "share:bundles",
        "export": "share:export",
        "verify": "share:verify",
        "convert-released": "share:convert_released",
    },
    "practise": {
        "demo": "practise:demo",
        "phantom": "practise:phantom",
        "phantom-camelyon16": "practise:phantom_camelyon16",
        "phantom-breast-biopsies": "practise:phantom_breast_biopsies",
        "phantom-bach": "practise:phantom_bach",
        "phantom-multi-stain": "practise:phantom_multi_stain",
    },
}


def main() -> None:
    """Run the command that the command line names."""
    use_utf8()
    run(COMMANDS)


if __name__ == "__main__":
    main()
