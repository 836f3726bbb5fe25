"""Train a bundle's network at full width for so many minutes, in bfloat16, with a checkpoint and a curve every minute.

    python -m tests.gpu.train NAME MINUTES [--data FOLDER] [--init_weights CHECKPOINT] [--output FOLDER]

Writes to the output folder every minute: curve.csv and curve.png; the weights, last.pt; the best so far by the
bundle's own key metric, model.pt and model.json. With --piece_mib, instead of the latter three, the weights in bfloat16
as files of at most so many MiB, which ``cat weights.pt.* > weights.pt`` puts together.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from common.bundle.find import known_bundles, short_name
from tests.gpu.output import prepare_output
from tests.gpu.sight import gpu_in_sight

REGIONS = ("1008", "1015", "1019")


def main() -> None:
    """Check the arguments, then train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], prog="train.sh")
    parser.add_argument("name", choices=[short_name(name) for name in known_bundles()])
    parser.add_argument("minutes", type=float)
    parser.add_argument("--data", default="phantoms", help="folder with the real regions instead of phantoms")
    parser.add_argument("--init_weights", metavar="CHECKPOINT")
    parser.add_argument("--output", type=Path, default=Path("output/gpu_training"))
    parser.add_argument("--piece_mib", type=float)
    parser.add_argument("--miniature", action="store_true", help="a narrow network")
    parser.add_argument("--prepare", action="store_true", help="check the arguments and prepare the output folder only")
    arguments = parser.parse_args()
    if not gpu_in_sight() and not arguments.miniature:
        parser.error("no GPU in sight. --miniature rehearses with a narrow network on the CPU")
    wanted = [f"{region}{end}" for region in REGIONS for end in (".tif", "_tumour.png")]
    absent = [name for name in wanted if not (Path(arguments.data) / name).is_file()]
    if arguments.data != "phantoms" and absent:
        parser.error(f"{arguments.data} lacks {', '.join(absent)}: name the folder with the three real regions")
    if arguments.init_weights is not None and not Path(arguments.init_weights).is_file():
        parser.error(f"{arguments.init_weights}: no such checkpoint")
    if arguments.prepare:
        try:
            start = arguments.init_weights
            prepare_output(arguments.output, None if start is None else Path(start))
        except OSError as error:
            parser.error(f"cannot write the results: {error}. Set OUT to a folder that can be written to")
        return
    print("loading", flush=True)
    # Takes seconds, which a mistake in the arguments need not wait for.
    from tests.gpu.minutes import train

    output = arguments.output.absolute()
    settings = (arguments.init_weights, arguments.piece_mib, arguments.miniature)
    train(arguments.name, arguments.minutes, arguments.data, output, *settings)
    print(output)


if __name__ == "__main__":
    main()
