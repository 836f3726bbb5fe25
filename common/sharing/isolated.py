"""Use a bundle as someone does who does not have this project. Run by its path, in a process of its own:

python isolated.py run ARGUMENTS OF monai.bundle…
python isolated.py outline|properties|shape|torchscript BUNDLE [DATALIST]
python isolated.py model FORMAT BUNDLE FILE
"""

from __future__ import annotations

import importlib.metadata
import os
import runpy
import sys
import tempfile
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

# Neither importable nor installed in this process: an exported bundle carries what it needs under another name.
ABSENT, DISTRIBUTION = "common", "multimag"
# Bytes of memory and of a file that this process may use, if they are limited.
LIMITS = "MULTIMAG_TRIAL_LIMITS"


class _NotInstalled:
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name.split(".")[0] == ABSENT:
            message = f"No module named {name!r}: the bundle does not carry all that it needs"
            raise ModuleNotFoundError(message, name=name)
        return None


def _hide_distribution() -> None:
    found = importlib.metadata.distribution

    def distribution(distribution_name: str) -> importlib.metadata.Distribution:
        if distribution_name.lower() == DISTRIBUTION:
            raise importlib.metadata.PackageNotFoundError(distribution_name)
        return found(distribution_name)

    importlib.metadata.distribution = distribution


def _configs(bundle: Path, *names: str) -> list[str]:
    return [str(bundle / "configs" / f"{name}.yaml") for name in names]


def _metadata(bundle: Path) -> str:
    return str(bundle / "configs" / "metadata.json")


def _text(path: str | Path) -> str:
    """Return a path as a config takes it: MONAI reads a plain # as ::."""
    return "$" + repr(str(path)).replace("#", "\\x23").replace("@", "\\x40")


def outline(bundle: Path) -> None:
    """Print fields of view, target and labels of ``inference.yaml``, and where the metadata differs, as JSON."""
    import json

    from monai.bundle import ConfigParser

    parser = ConfigParser(ConfigParser.load_config_files(_configs(bundle, "inference")))
    parser["bundle_root"] = _text(bundle)
    views, target, scheme = (parser.get_parsed_content(key) for key in ("fields_of_view", "target", "scheme"))
    formats = json.loads(Path(_metadata(bundle)).read_text(encoding="utf-8"))["network_data_format"]
    image, pred = formats["inputs"]["image"], formats["outputs"]["pred"]
    problems = []
    if image["num_channels"] != 3 * len(views):
        problems.append(f"metadata: image has {image['num_channels']} channels, the configs read {3 * len(views)}")
    for number in range(3 * len(views)):
        text, mpp = image["channel_def"].get(str(number), ""), views[number // 3]["mpp"]
        if f"{mpp} micrometres per pixel" not in text:
            problems.append(f"metadata: channel {number} of image is {text!r}, in the configs at {mpp} µm/px")
    if pred["channel_def"] != scheme.channel_def():
        problems.append(f"metadata: channels of pred are {pred['channel_def']}, in the configs {scheme.channel_def()}")
    if pred["num_channels"] != len(pred["channel_def"]):
        problems.append(f"metadata: pred has {pred['num_channels']} channels, and names {len(pred['channel_def'])}")
    found = {"fields_of_view": views, "target": target, "labels": [one.label for one in scheme.classes]}
    print(json.dumps({**found, "problems": problems}))


def properties(bundle: Path, datalist: str) -> None:
    """Check every property that MONAI requires of training, evaluation and inference."""
    from monai.bundle import ConfigWorkflow

    works = {"train": ["train"], "infer": ["inference"], "evaluate": ["train", "evaluate"]}
    problems = []
    output = tempfile.TemporaryDirectory()
    for work, names in works.items():
        if not all(Path(path).is_file() for path in _configs(bundle, *names)):
            problems.append(f"{work}: no {' or '.join(_configs(bundle, *names))}")
            continue
        workflow = ConfigWorkflow(
            workflow_type="infer" if work == "infer" else "train",
            config_file=_configs(bundle, *names),
            meta_file=_metadata(bundle),
            logging_file=str(bundle / "configs" / "logging.conf"),
            bundle_root=_text(bundle),
            datalist=_text(datalist),
            slides=_text(datalist),
            output_dir=output.name,
        )
        workflow.initialize()
        problems += [f"{work}: {name}" for name in workflow.check_properties() or ()]
    if problems:
        raise SystemExit(f"properties that are not there or not what MONAI asks for: {', '.join(problems)}")


def shape(bundle: Path) -> None:
    """Check that the network's input and output have the shapes that the metadata states."""
    from monai.bundle import verify_net_in_out

    verify_net_in_out("network_def", _metadata(bundle), _configs(bundle, "inference"), n=1, any=256, device="cpu")


def torchscript(bundle: Path) -> None:
    """Check that the checkpoint exports as TorchScript."""
    from monai.bundle import ckpt_export

    with tempfile.TemporaryDirectory() as folder:
        ckpt_export(
            net_id="network_def",
            filepath=f"{folder}/model.ts",
            ckpt_file=str(bundle / "models" / "model.pt"),
            meta_file=_metadata(bundle),
            config_file=_configs(bundle, "inference"),
        )


def model(kind: str, bundle: Path, file: str) -> None:
    """Write the network with its weights in one file: ``ts`` (TorchScript), ``pt2`` (torch.export) or ``onnx``.

    The same weights make the same bytes, and no path of this machine is in them.
    """
    import json

    import torch
    from monai.bundle import ConfigParser

    parser = ConfigParser(ConfigParser.load_config_files(_configs(bundle, "inference")))
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(torch.load(bundle / "models" / "model.pt", map_location="cpu", weights_only=True))
    metadata = Path(_metadata(bundle)).read_text(encoding="utf-8")
    declared = json.loads(metadata)["network_data_format"]["inputs"]["image"]
    # Two, as a batch of one would be taken for a fixed size.
    size = (2, declared["num_channels"], *declared["spatial_shape"])
    image = torch.rand(*size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        {"ts": _torchscript, "pt2": _exported, "onnx": _onnx}[kind](network, image, file, metadata)


def _torchscript(network: Any, image: Any, file: str, metadata: str) -> None:
    import torch

    with tempfile.TemporaryDirectory() as folder:
        torch.jit.save(torch.jit.script(network), f"{folder}/model.ts", _extra_files={"metadata.json": metadata})
        # Debugging records hold paths of this machine; the writer adds the others itself.
        reader, writer = torch._C.PyTorchFileReader(f"{folder}/model.ts"), torch._C.PyTorchFileWriter(file)
        own = {".data/serialization_id", "version", ".format_version", ".storage_alignment", "byteorder"}
        for record in sorted(set(reader.get_all_records()) - own):
            if not record.endswith(".debug_pkl"):
                content = reader.get_record(record)
                writer.write_record(record, content, len(content))
        writer.write_end_of_file()
    _check(network, image, torch.jit.load(file)(image), file)


def _exported(network: Any, image: Any, file: str, metadata: str) -> None:
    import torch

    program = torch.export.export(network, (image,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    for node in program.graph_module.graph.nodes:
        node.meta.pop("stack_trace", None)
    torch.export.save(program, file, extra_files={"metadata.json": metadata})
    _check(network, image, torch.export.load(file).module()(image), file)


def _onnx(network: Any, image: Any, file: str, metadata: str) -> None:
    import torch

    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  (the exporter's)
    except ImportError as error:
        raise SystemExit("ONNX needs an extra: pip install -e '.[onnx]' in this project's folder") from error
    torch.onnx.export(
        network,
        (image,),
        file,
        input_names=["image"],
        output_names=["pred"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        external_data=False,
        dynamo=True,
        verbose=False,
    )
    written = onnx.load(file)
    parts = [written.graph, *written.graph.node, *written.graph.value_info, *written.functions]
    parts += [node for function in written.functions for node in function.node]
    for part in parts:
        del part.metadata_props[:]
    onnx.helper.set_model_props(written, {"metadata.json": metadata})
    onnx.checker.check_model(written)
    onnx.save(written, file)
    (found,) = onnxruntime.InferenceSession(file).run(None, {"image": image.numpy()})
    _check(network, image, torch.from_numpy(found), file)


def _check(network: Any, image: Any, found: Any, file: str) -> None:
    import torch

    expected = network(image)
    if not torch.allclose(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())):
        raise SystemExit(f"{file} does not give what the network gives")


def _limit_resources() -> None:
    """Limit the memory and file size of this process and its children, before anything of the bundle is read."""
    limits = os.environ.pop(LIMITS, None)
    if limits is None:
        return
    try:
        import resource
    except ImportError:  # Windows has no such limits.
        return
    memory, file = map(int, limits.split())
    # Not the address space: a GPU's library reserves far more of it than it uses.
    for kind, most in ((resource.RLIMIT_DATA, memory), (resource.RLIMIT_FSIZE, file), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def main() -> None:
    """Run the task that the arguments name."""
    _limit_resources()
    sys.path.remove(str(Path(__file__).resolve().parent))
    sys.meta_path.insert(0, _NotInstalled())
    _hide_distribution()
    task, *rest = sys.argv[1:]
    if task == "run":
        sys.argv = ["monai.bundle", "run", *rest]
        runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
        return
    bundle = Path(rest[1] if task == "model" else rest[0])
    sys.path.insert(0, str(bundle))
    if task == "model":
        model(rest[0], bundle, rest[2])
    elif task == "properties":
        properties(bundle, rest[1])
    else:
        {"outline": outline, "shape": shape, "torchscript": torchscript}[task](bundle)


if __name__ == "__main__":
    main()
