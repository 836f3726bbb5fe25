"""Export bundles, and check those of others."""

from __future__ import annotations

from .values import listed


def bundles() -> None:
    """List the bundles that come with MultiMag: name, task, weights and folder."""
    from ..bundle.find import listed_bundles

    print(listed_bundles())


def export(
    bundle: str,
    checkpoint: str,
    output: str | None = None,
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
        bundle: name (dmmn, mrn, ...) or folder of the bundle.
        checkpoint: the weights, as train.yaml writes them.
        output: zip to write.
        huggingface: folder to write for Hugging Face.
        config: overlays that the checkpoint was trained with, separated by commas: names in the bundle's configs, or
            paths; by default those that the checkpoint names.
        name: name of the exported bundle; the bundle's by default.
        trained_on: a sentence on what the weights were trained on, and under what licence.
        version: version number of the export; the bundle's by default.
        changes: description of what is new in that version.
        metadata: JSON or YAML with further fields of metadata.json (authors, intended_use, eval_metrics, ...).
        formats: further files of the network, separated by commas: ts (TorchScript), pt2 (torch.export), onnx.
        large_files_url: address where files above 25 MB will lie, for large_files.yml.
        license: licence of the weights, as Hugging Face spells it, for the model card.
    """
    from ..bundle.find import find_bundle, trained_as
    from ..sharing import ExportOptions, export_bundle

    overlays = listed(config) or trained_as(checkpoint)[1]
    chosen = ExportOptions(
        overlays, name, trained_on, version, changes, metadata, listed(formats), large_files_url, license
    )
    written = export_bundle(find_bundle(bundle), checkpoint, output, huggingface, chosen)
    print(f"exported: {written}\ncheck it: multimag verify {written}")


def verify(
    bundle: str,
    schema: str | None = None,
    run: bool = True,
    trial_minutes: float = 20.0,
    trial_memory_gb: float = 16.0,
) -> None:
    """Check that a bundle's folder or zip can be handed on. Exits with a non-zero code if something is wrong.

    No code of the bundle is run until its files, weights, settings and code have been checked. Verify does not protect
    you from what that code does once it runs: the trial run is limited in time and memory, but may read and change
    every file that you may, and use the network. Check a stranger's bundle with --run False.

    Args:
        bundle: folder or zip.
        schema: the Model Zoo's metadata schema, to check against as well.
        run: also run the bundle's code on a synthetic slide, without this project.
        trial_minutes: time limit of each step of that run.
        trial_memory_gb: memory limit of each of its processes, in GiB.
    """
    from ..sharing import TrialLimits, verify_bundle

    limits = TrialLimits(seconds=60 * trial_minutes, memory=round(trial_memory_gb * 2**30))
    found = verify_bundle(bundle, schema, run, limits)
    print("\n".join(map(str, found)))
    if any(finding.problems for finding in found):
        raise SystemExit(1)


def convert_released(released: str, output: str) -> None:
    """Convert a checkpoint that the authors of DMMN released to one that the DMMN bundle loads.

    Args:
        released: the released ``.pkl``, of which only the tensors are read.
        output: checkpoint to write: ``models/released.pt`` in the bundle, for ``configs/released.yaml``.
    """
    import torch

    from ..files import atomic_write
    from ..networks import load_released_dmmn

    network = load_released_dmmn(released)
    with atomic_write(output) as partial:
        torch.save(network.state_dict(), partial)
    print(f"{sum(p.numel() for p in network.parameters()):,} weights: {output}")
