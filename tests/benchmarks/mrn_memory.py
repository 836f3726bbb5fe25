"""Memory of MRN by its number of resolutions: what a training step keeps for the backward pass.

    python tests/benchmarks/mrn_memory.py [--size 512] [--width 16]

Counted in bytes of the tensors that autograd saves, float32, one patch; weights come on top.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
import torch

from common.networks import MRN


def kept(network: MRN, image: torch.Tensor) -> int:
    """Bytes of all tensors that a forward pass keeps for the backward one, each once; without the weights."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    found: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = network(image)
    # Alive until here, so that no two of them have had one address.
    del output
    return sum(found.values())


def main() -> None:
    """Print a table, and how far it is from a straight line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--width", type=int, default=16)
    arguments = parser.parse_args()
    channels = [arguments.width * 2**level for level in range(5)]
    rows = []
    for upsample in ("bilinear", "transposed"):
        for resolutions in (1, 2, 3, 4):
            network = MRN(resolutions=resolutions, upsample=upsample, channels=channels)
            memory = kept(network, torch.rand(1, 3 * resolutions, arguments.size, arguments.size))
            parameters = sum(p.numel() for p in network.parameters())
            rows.append((upsample, resolutions, memory / 2**20, parameters / 1e6))
    table = pd.DataFrame(rows, columns=["upsample", "resolutions", "MiB a patch", "parameters (millions)"])
    print(table.round(2).to_string(index=False))
    for upsample, part in table.groupby("upsample", sort=False):
        steps = np.diff(part["MiB a patch"])
        print(f"{upsample}: each further resolution adds {steps.round(1).tolist()} MiB")


if __name__ == "__main__":
    main()
