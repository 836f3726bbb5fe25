"""Diagnosis of 120 synthetic regions in the form of Table III of Mehta et al. 2018: from the label maps of SP-SVM, of
the paper's own network of one and of several resolutions, and from the truth.

    python tests/benchmarks/encdec_diagnosis.py [OUTPUT]

After encdec_ablation.py, whose networks (first seed) and SP-SVM it takes from the same folder. Half an hour on two
cores.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from encdec_ablation import ENCDEC, SP_SETTINGS, SP_SVM, laid, painted, run_folder
from phantom_ablation import bundle

from common.evaluation.comparison import compare_runs
from common.phantom import BIOPSY_CLASSES

NETWORKS = ("Own, single", "Own, multi")


def segment(title: str, data: Path, folder: Path, threads: int) -> None:
    """Label maps of all testing regions; what is finished is left."""
    files = {"slides": data / "datalist.json", "checkpoint": folder / "model.pt", "output_dir": folder / "slides"}
    outputs = ["prediction.tif", "summary.json"]
    env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    bundle(["inference.yaml", *laid(title)], ENCDEC, env, **files, outputs=outputs)


def main() -> None:
    """Segment, diagnose, compare label by label."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", nargs="?", default="output/encdec_ablation")
    arguments = parser.parse_args()
    folder = Path(arguments.output).absolute()
    data = painted(folder)
    networks = {title: run_folder(folder, title, 0) for title in NETWORKS}
    threads = max(1, (os.cpu_count() or 1) // len(networks))
    with ThreadPoolExecutor(len(networks)) as pool:
        for run in [pool.submit(segment, title, data, path, threads) for title, path in networks.items()]:
            run.result()
    # A command line would take a title with a comma for two.
    titled = {title.replace(",", ""): path / "slides" for title, path in networks.items()}
    maps = {SP_SVM: folder / SP_SVM / "slides", **titled}
    files = {"checkpoint": folder / "diagnosis.skops", "output_dir": folder / "diagnosis"}
    given = {"label_maps": {title: str(path) for title, path in maps.items()}, "fit_to": list(maps)[-1], **SP_SETTINGS}
    bundle(["diagnose.yaml"], ENCDEC, datalist=data / "datalist.json", from_truth=True, **files, **given)
    print((folder / "diagnosis" / "diagnosis.csv").read_text())
    compare_runs(maps, data / "datalist.json", BIOPSY_CLASSES, folder / "labels")
    print(f"{folder / 'diagnosis'}; label by label {folder / 'labels' / 'classes.png'}")


if __name__ == "__main__":
    main()
