"""Bundles made to do harm: refused soon, with little memory, and nothing of them run or printed raw."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import subprocess
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path

import pytest
import torch

from common.files import printable
from common.sharing import TrialLimits, verify_bundle
from common.sharing.archive import BundleFileError, unpack, write_checksums, write_zip
from common.sharing.isolation import run_isolated
from common.sharing.model_files import check_model_file
from common.sharing.smoke_slide import write_smoke_slide
from common.sharing.texts import read_settings, yaml_content
from tests.bundles.commands import run_common
from tests.conftest import REPOSITORY

_SECONDS, _BYTES = 5, 500 * 10**6
# Nine aliases of nine aliases, ten times: 3.5 thousand million texts.
_LAUGHS = "b0: &b0 [lol,lol,lol,lol,lol,lol,lol,lol,lol]\n" + "".join(
    f"b{number}: &b{number} [{','.join([f'*b{number - 1}'] * 9)}]\n" for number in range(1, 10)
)


def problems(bundle: Path) -> list[str]:
    """Return the problems that the static checks find."""
    return [problem for finding in verify_bundle(bundle, run=False) for problem in finding.problems]


def soon(bundle: Path) -> list[str]:
    """The same, in little time of the processor and little memory."""
    tracemalloc.start()
    begun = time.process_time()
    try:
        found = problems(bundle)
        assert time.process_time() - begun < _SECONDS
        assert tracemalloc.get_traced_memory()[1] < _BYTES
    finally:
        tracemalloc.stop()
    return found


def append(bundle: Path, name: str, text: str) -> None:
    with (bundle / name).open("a") as file:
        file.write(text)


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("configs/inference.yaml", _LAUGHS, "unfolds to more than 20,000 values"),
        ("configs/more.json", "[" * 500 + "]" * 500, "nested deeper than 64 levels"),
        ("configs/more.json", "[" * 10**5 + "]" * 10**5, "cannot be read as JSON"),
        ("configs/more.yaml", "a: " + "[" * 10**4 + "]" * 10**4, "nested deeper than 64 levels"),
        ("configs/more.yaml", "a: &a [*a]\n", "an alias stands for a value that holds the alias itself"),
        ("configs/more.yaml", f"a: &a {'x' * 10**5}\nb: [{','.join(['*a'] * 10**4)}]\n", "unfolds to more than"),
        ("configs/more.yaml", "a: 1\n" * 10**5, "a file of this kind may have 262,144"),
        ("scripts/more.py", "-" * 10**5 + "1\n", "not Python"),
        ("scripts/more.py", "1,\n" * 10**6, "a file of this kind may have 524,288"),
        ("docs/README.md", "x" * 10**7, "a file of this kind may have 8,388,608"),
        ("SHA256SUMS", "0" * 10**7, "a file of this kind may have 8,388,608"),
    ],
)
def test_texts_that_never_end_are_refused(name, text, match, unpacked_bundle):
    append(unpacked_bundle, name, text)
    found = soon(unpacked_bundle)
    assert any(re.search(match, problem) for problem in found), found


def test_settings_that_never_end_are_refused_before_any_library_is_loaded(unpacked_bundle):
    """The command's time counts, not that of the check alone."""
    append(unpacked_bundle, "configs/inference.yaml", _LAUGHS)
    code = (
        f"import sys, time; sys.argv = ['multimag', 'verify', {str(unpacked_bundle)!r}]\n"
        "from common.__main__ import main\n"
        "try:\n    main()\n"
        "finally:\n    print(sorted({'torch', 'monai'} & set(sys.modules)), time.process_time(), sep='|')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 1, done.stderr
    *found, last = done.stdout.splitlines()
    loaded, seconds = last.split("|")
    assert "unfolds to more than 20,000 values" in found[-1]
    assert loaded == "[]"
    assert float(seconds) < _SECONDS


def test_merge_keys_of_aliases_are_counted_too():
    text = "a0: &a0 {x: 1}\n" + "".join(
        f"a{number}: &a{number} {{<<: [{','.join([f'*a{number - 1}'] * 9)}]}}\n" for number in range(1, 10)
    )
    with pytest.raises(ValueError, match="unfolds to more"):
        yaml_content(text)


def test_aliases_as_people_use_them_are_read():
    assert yaml_content("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]\n") == {
        "a": {"x": 1},
        "b": {"x": 1, "y": 2},
        "c": [{"x": 1}, {"x": 1}],
    }


@pytest.mark.parametrize("name", ["configs/more.yaml", "docs/README.md", "SHA256SUMS", "models/model.safetensors"])
def test_pipes_devices_and_links_are_refused_and_not_opened(name, unpacked_bundle):
    path = unpacked_bundle / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    assert problems(unpacked_bundle) == [f"{name}: a pipe, socket or device. Remove it"]
    path.unlink()
    for aim in ("/dev/zero", "/etc/passwd", "/nowhere", unpacked_bundle / "LICENSE"):
        path.symlink_to(aim)
        assert problems(unpacked_bundle) == [f"{name}: a link. Put the file itself there, or remove it"]
        path.unlink()


def test_a_linked_folder_is_not_entered(unpacked_bundle, tmp_path):
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "again").symlink_to(tmp_path / "loop")
    (unpacked_bundle / "docs" / "more").symlink_to(tmp_path / "loop")
    assert problems(unpacked_bundle) == ["docs/more: a link. Put the file itself there, or remove it"]


def test_a_device_is_no_bundle():
    for path in ("/dev/zero", "/dev/stdin"):
        with pytest.raises(BundleFileError, match="no such file or folder"):
            verify_bundle(path)


def test_names_and_texts_are_never_printed_raw(unpacked_bundle, tmp_path):
    """Escape sequences could erase what was found; other characters change the direction of text."""
    evil = "\x1b[2J\x1b]0;title\x07\x9b1A\u202e\rok"
    (unpacked_bundle / "docs" / f"{evil}.md").write_text("x")
    printed = run_common("verify", unpacked_bundle, "--run", "False", check=False)
    assert not set(printed) & set("\x1b\x07\x9b\u202e")
    assert "a name with control characters" in printed
    (unpacked_bundle / "docs" / f"{evil}.md").unlink()
    metadata = unpacked_bundle / "configs" / "metadata.json"
    said = json.loads(metadata.read_text()) | {"name": f"{evil}\nok     everything"}
    metadata.write_text(json.dumps(said, ensure_ascii=False))
    append(unpacked_bundle, "configs/train.yaml", 'more: "/\\e[2J"\n')
    write_checksums(unpacked_bundle)
    lines = "\n".join(map(str, verify_bundle(unpacked_bundle, run=False)))
    assert not set(lines) & set("\x1b\x07\x9b\u202e\r")
    assert "\\x1b[2J" in lines
    assert "ok     everything" not in lines.split("\n")
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"my_bundle/{evil}.md", "x")
    with pytest.raises(BundleFileError) as caught:
        unpack(path, tmp_path / "out")
    assert not set(str(caught.value)) & set("\x1b\x07\x9b\u202e\r")
    assert printable("µm/px – 多") == "µm/px – 多"


@pytest.mark.parametrize(
    "name", [".git/config", ".cache/huggingface/a.py", ".hidden.py", "scripts/.more/a.py", ".env.txt"]
)
def test_nothing_in_a_zip_escapes_the_checksums(name, unpacked_bundle, tmp_path):
    (unpacked_bundle / name).parent.mkdir(parents=True, exist_ok=True)
    path = tmp_path / "evil.zip"
    write_zip(unpacked_bundle, path)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(f"{unpacked_bundle.name}/{name}", "x")
    with pytest.raises(BundleFileError, match="is hidden: such files are not among the checksums"):
        unpack(path, tmp_path / "out")


def test_what_git_and_hubs_keep_of_a_folder_is_said_to_be_unchecked(unpacked_bundle):
    for name in (".git/config", ".cache/huggingface/x.py", "scripts/__pycache__/x.pyc"):
        (unpacked_bundle / name).parent.mkdir(parents=True)
        (unpacked_bundle / name).write_text("x")
    found = {finding.check: finding for finding in verify_bundle(unpacked_bundle, run=False)}
    assert not any(finding.problems for finding in found.values())
    notes = found["sums of all files"].notes
    assert [note.split()[0] for note in notes] == [".cache", ".git", "scripts/__pycache__"]
    (unpacked_bundle / "docs" / ".hidden.md").write_text("x")
    assert "not among the files of SHA256SUMS" in problems(unpacked_bundle)[0]


@pytest.mark.parametrize(
    ("name", "size", "match"),
    [("docs/README.md", 10**7, "such a file may have"), ("models/model.pt", 10**8, "would unpack to 100,000,000")],
)
def test_a_zip_that_grows_is_refused_before_it_is_unpacked(name, size, match, tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(f"my_bundle/{name}", bytes(size))
    with pytest.raises(BundleFileError, match=match):
        unpack(path, tmp_path / "out")


def test_a_zip_with_an_endless_list_is_not_read_whole(tmp_path):
    path = tmp_path / "long.zip"
    with zipfile.ZipFile(path, "w") as file:
        for number in range(300):
            entry = zipfile.ZipInfo(f"my_bundle/{number}.md")
            entry.comment = bytes(60_000)
            file.writestr(entry, b"")
    with pytest.raises(BundleFileError, match="the list of what is in it is too long"):
        unpack(path, tmp_path / "out")


class Evil:
    """Leaves a file behind if it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


class _Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 2, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(self.layer(image), size=image.shape[-2:])


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> Path:
    """A small network as TorchScript and torch.export write it."""
    folder, network = tmp_path_factory.mktemp("programs"), _Small().eval()
    torch.jit.save(torch.jit.script(network), folder / "model.ts", _extra_files={"metadata.json": "{}"})
    program = torch.export.export(network, (torch.rand(2, 3, 8, 8),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, folder / "model.pt2", extra_files={"metadata.json": "{}"})
    return folder


def rewritten(source: Path, to: Path, change: dict[str, bytes | None]) -> None:
    """An archive of torch with records replaced, added or (None) left out."""
    with zipfile.ZipFile(source) as file:
        records = {name.partition("/")[2]: file.read(name) for name in file.namelist()}
        root = file.namelist()[0].partition("/")[0]
    records |= change
    with zipfile.ZipFile(to, "w", zipfile.ZIP_STORED) as file:
        for name, content in records.items():
            if content is not None:
                file.writestr(f"{root}/{name}", content)


def record(source: Path, name: str) -> bytes:
    with zipfile.ZipFile(source) as file:
        (found,) = (one for one in file.namelist() if one.endswith(f"/{name}"))
        return file.read(found)


def saved(value: object) -> bytes:
    to = io.BytesIO()
    torch.save(value, to)
    return to.getvalue()


def refusal(path: Path) -> str:
    """Why a file of a network is refused; empty if it is not."""
    try:
        check_model_file(path)
    except (BundleFileError, ValueError) as error:
        return str(error)
    return ""


def with_program(folder: Path, source: Path, change: dict[str, bytes | None]) -> str:
    """Why a program with other records is refused."""
    rewritten(source, folder / source.name, change)
    return refusal(folder / source.name)


def test_programs_as_torch_writes_them_are_accepted(programs, unpacked_bundle, tmp_path):
    for name in ("model.ts", "model.pt2"):
        (unpacked_bundle / "models" / name).write_bytes((programs / name).read_bytes())
    write_checksums(unpacked_bundle)
    assert problems(unpacked_bundle) == []
    for name in ("model.ts", "model.pt2"):
        assert with_program(tmp_path, programs / name, {}) == ""


def test_an_archive_that_runs_code_when_torch_loads_it_is_refused(programs, tmp_path):
    """torch.export.load unpickles records that the list of weights calls pickled. This is shown first, or nothing would
    be tested."""
    mark = tmp_path / "was_run"
    place = "data/weights/model_weights_config.json"
    said = json.loads(record(programs / "model.pt2", place))
    next(iter(said["config"].values()))["use_pickle"] = True
    change = {place: json.dumps(said).encode(), "data/weights/weight_0": saved(Evil(mark))}
    rewritten(programs / "model.pt2", tmp_path / "model.pt2", change)
    code = f"import torch; torch.export.load({str(tmp_path / 'model.pt2')!r})"
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert mark.exists()
    mark.unlink()
    assert "data/weights/weight_0 holds pickled code" in with_program(tmp_path, programs / "model.pt2", change)
    assert not mark.exists()


def test_pickles_and_libraries_in_an_exported_program_are_refused(programs, tmp_path):
    mark, evil = tmp_path / "was_run", "no place in it"
    for name, content, match in [
        ("data/sample_inputs/model.pt", saved(Evil(mark)), "sample_inputs/model.pt holds pickled code"),
        ("data/constants/opaque_obj_0", pickle.dumps(Evil(mark)), evil),
        ("data/constants/custom_obj_0", pickle.dumps(Evil(mark)), evil),
        ("data/weights/model.pt", saved(Evil(mark)), evil),
        ("data/aotinductor/model/model.so", b"\x7fELF", evil),
        ("serialized_state_dict.pt", saved(Evil(mark)), evil),
        ("data.pkl", pickle.dumps(Evil(mark)), evil),
        ("DATA/weights/weight_0", b"x", "is in it twice"),
        ("archive_format", None, "no torch.export file"),
    ]:
        found = with_program(tmp_path, programs / "model.pt2", {name: content})
        assert match in found, (name, found)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("replaced", "by"),
    [
        ("torch.ops.aten.conv2d.default", "torch.os.system"),
        ("torch.ops.aten.conv2d.default", "torch.ops.aten.from_file.default"),
        ("torch.ops.aten.conv2d.default", "torch.ops.aten.save.default"),
        ("torch.ops.aten.conv2d.default", "torch.ops.aten.__class__"),
        ("torch.ops.aten.conv2d.default", "torch.ops.quantized.conv2d.default"),
        ("torch.ops.aten.conv2d.default", "torch.ops.higher_order.triton_kernel_wrapper_mutation"),
        ("torch.ops.aten.conv2d.default", "torch.ops.load_library"),
        ("torch.ops.aten.conv2d.default", "math.__loader__"),
        ("torch.ops.aten.conv2d.default", "#evil:op"),
        ('"name": "input"', '"name": "input=print(1), x"'),
    ],
)
def test_a_program_that_calls_what_is_no_operator_is_refused(replaced, by, programs, tmp_path):
    said = record(programs / "model.pt2", "models/model.json").decode()
    changed = json.dumps(json.loads(said)).replace(replaced, by)
    assert changed != json.dumps(json.loads(said))
    found = with_program(tmp_path, programs / "model.pt2", {"models/model.json": changed.encode()})
    assert "models/model.json could run code" in found, found


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')", "print(1)", "().__class__", "[x for x in y]", "lambda: 1", "s0 if 1 else 2",
        "L['x'].__class__", "open('/etc/passwd')", "exec('1')", "a := 1", "s0; s1", "f'{s0}'",
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", ["expr_str", "guards_code", "range_constraints"])
def test_expressions_that_torch_evaluates_are_arithmetic_only(key, text, programs, tmp_path):
    said = json.loads(record(programs / "model.pt2", "models/model.json"))
    if key == "range_constraints":
        said[key] = {text: {"min_val": 1, "max_val": 2}}
    elif key == "guards_code":
        said[key] = [text]
    else:
        said["graph_module"]["graph"]["sym_int_values"]["s0"] = {"as_expr": {"expr_str": text, "hint": None}}
    content = json.dumps(said).encode()
    found = with_program(tmp_path, programs / "model.pt2", {"models/model.json": content})
    assert f"could run code: {key} is" in found, found


def test_torchscript_that_names_other_classes_or_files_is_refused(programs, tmp_path):
    mark, source = tmp_path / "was_run", programs / "model.ts"
    with zipfile.ZipFile(source) as file:
        (code,) = (name.partition("/")[2] for name in file.namelist() if name.endswith(".py") and "_Small" in
                   file.read(name).decode())  # fmt: skip
    text = record(source, code).decode()
    for name, content, match in [
        ("data.pkl", pickle.dumps(Evil(mark), 2), "data.pkl holds pickled code"),
        ("data.pkl", pickle.dumps(Evil(mark), 4), "data.pkl holds pickled code"),
        ("constants.pkl", b"cos\nsystem\n(S'true'\ntR.", "constants.pkl holds pickled code"),
        ("constants.pkl", None, "no TorchScript file: without constants.pkl"),
        ("more.pkl", b"N.", "no place in it"),
        (code, re.sub(r"(?<!\.)torch\.\w+\(", "torch.save(", text).encode(), "calls torch.save"),
    ]:
        found = with_program(tmp_path, source, {name: content})
        assert match in found, (name, found)
    assert not mark.exists()


@pytest.mark.parametrize(
    "call",
    [
        "torch.save(image, PLACE)",
        "torch . save(image, PLACE)",
        "torch.\\\n      save(image, PLACE)",
        "(torch\n      .save)(image, PLACE)",
        "ops.aten.save(image, PLACE)",
        "(ops\n     .aten).save(image, PLACE)",
        "torch.autograd.save(image, PLACE)",
        # By another name.
        "a = torch\n    a.save(image, PLACE)",
        "a = torch.autograd\n    a.save(image, PLACE)",
        "a = ops.aten\n    a.save(image, PLACE)",
        "a = torch.save\n    a(image, PLACE)",
        'getattr(torch, "save")(image, PLACE)',
        'getattr(ops.aten, "save")(image, PLACE)',
        # Texts that Python and torch may end at different places.
        'torch.warn(""" " """)',
        'torch.warn(f"{torch}")',
        'torch.warn("\\\n")',
        'torch.warn("\r")',
        'torch.warn("\u00b5")',
        'ops . aten . from_file("/etc/hostname", None, 5)',
        "ops.quantized.linear(image)",
        "ops . \\\n quantized.linear(image)",
        "__torch__.torch.classes.dist_c10d.FileStore(PLACE, 1)",
        "^Anything()(image)",
        "torch.neg(image) # a comment",
        '"',
    ],
)
def test_torchscript_code_that_reaches_files_or_other_code_is_refused_however_it_is_written(call, programs, tmp_path):
    source, place = programs / "model.ts", tmp_path / "written"
    with zipfile.ZipFile(source) as file:
        (code,) = (name.partition("/")[2] for name in file.namelist() if name.endswith(".py") and "_Small" in
                   file.read(name).decode())  # fmt: skip
    before, returned, after = record(source, code).decode().rpartition("    return")
    text = f"{before}    {call.replace('PLACE', repr(str(place)))}\n{returned}{after}"
    assert "which may reach files or run code" in with_program(tmp_path, source, {code: text.encode()})
    if "save(" in call:
        # Or nothing would be tested.
        torch.jit.load(tmp_path / "model.ts")(torch.rand(1, 3, 8, 8))
        assert place.exists()


def test_torchscript_that_only_computes_and_warns_is_accepted(programs, tmp_path):
    source = programs / "model.ts"
    with zipfile.ZipFile(source) as file:
        (code,) = (name.partition("/")[2] for name in file.namelist() if name.endswith(".py") and "_Small" in
                   file.read(name).decode())  # fmt: skip
    before, returned, after = record(source, code).decode().rpartition("    return")
    more = '    torch.warn("all well")\n    ops.prim.NumToTensor(1)\n'
    assert with_program(tmp_path, source, {code: f"{before}{more}{returned}{after}".encode()}) == ""


def test_torchscript_code_of_any_length_is_checked_soon(programs, tmp_path):
    for lines, says in ((80_000, ""), (90_000, "its code is longer than can be checked")):
        rewritten(programs / "model.ts", tmp_path / "model.ts", {"code/more.py": b"a = 1\n" * lines})
        begun = time.process_time()
        found = refusal(tmp_path / "model.ts")
        assert time.process_time() - begun < _SECONDS
        assert says in found
        assert bool(says) == bool(found)


def test_torchscript_with_objects_of_compiled_classes_is_refused(programs, tmp_path):
    pickled = b"\x80\x02c__torch__.torch.classes.dist_c10d\nFileStore\n)\x81."
    assert "holds pickled code" in with_program(tmp_path, programs / "model.ts", {"data.pkl": pickled})


def test_archives_of_two_readings_are_refused(programs, tmp_path):
    """Compressed records, a comment, or bytes before the archive: readers of zips differ in what they find then."""
    path = tmp_path / "model.ts"
    content = (programs / "model.ts").read_bytes()
    for change, match in [
        (lambda file: setattr(file, "comment", b"x"), "holds more than an archive"),
        (lambda file: file.writestr("x/data/9", b"x" * 99, zipfile.ZIP_DEFLATED), "folder|compressed"),
    ]:
        path.write_bytes(content)
        with zipfile.ZipFile(path, "a") as file:
            change(file)
        found = refusal(path)
        assert re.search(match, found), found
    path.write_bytes(b"#!/bin/sh\n" + content)
    assert "holds more than an archive" in refusal(path)


def varint(number: int) -> bytes:
    return bytes([number & 127 | 128]) + varint(number >> 7) if number > 127 else bytes([number])


def field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def test_onnx_is_opened_as_what_it_is(tmp_path):
    """Messages by the numbers of onnx.proto: ir_version 1, graph 7; node 1, initializer 5; external_data 13."""
    tensor = field(1, 2) + field(2, 1) + field(9, bytes(8))
    graph = field(1, field(4, b"Relu")) + field(2, b"graph") + field(5, tensor)
    model = field(1, 10) + field(7, graph) + field(8, field(2, 18))
    elsewhere = field(1, 2) + field(13, field(1, b"location") + field(2, b"../../etc/passwd"))
    deep = field(7, field(5, elsewhere))
    for _ in range(3):
        # A graph in an attribute of a node.
        deep = field(7, field(1, field(5, field(6, deep[2:] if len(deep) < 130 else deep[3:]))))
    path = tmp_path / "model.onnx"
    for content, match in [
        (model, None),
        (model[:-1], "no ONNX file, or one that was cut short"),
        (b"", "it is empty"),
        (pickle.dumps([1]), "no ONNX file"),
        (field(1, 10), "without a version or a graph"),
        (field(1, 10) + field(7, field(5, elsewhere)), "names another file to read weights from"),
        (field(1, 10) + field(7, field(5, field(14, 1))), "names another file to read weights from"),
        (field(1, 10) + deep, "names another file to read weights from"),
        (field(1, 10) * 600_000, "too many to check"),
    ]:
        path.write_bytes(content)
        found = refusal(path)
        assert found == "" if match is None else match in found, (match, found)


def _onnx_node(name: bytes, domain: bytes = b"") -> bytes:
    return field(4, name) + field(7, domain)


def _onnx_function(name: bytes, *calls: bytes) -> bytes:
    return field(25, field(1, name) + field(10, b"own") + b"".join(field(7, _onnx_node(one, b"own")) for one in calls))


def _onnx_tensor(*sides: int, data: bytes = bytes(8)) -> bytes:
    return b"".join(field(1, side) for side in sides) + field(2, 1) + field(9, data)


@pytest.mark.parametrize(
    ("graph", "more", "match"),
    [
        (field(1, _onnx_node(b"Relu", b"ai.onnx")), b"", "^$"),
        (field(1, _onnx_node(b"f", b"own")), _onnx_function(b"f", b"g", b"g") + _onnx_function(b"g"), "^$"),
        (field(1, _onnx_node(b"Run", b"evil")), b"", "calls 'Run' of 'evil'"),
        (field(1, field(5, field(6, field(1, _onnx_node(b"Run", b"evil"))))), b"", "calls 'Run' of 'evil'"),
        (field(1, _onnx_node(b"f", b"own")), _onnx_function(b"f", b"g"), "calls 'g' of 'own'"),
        (field(1, _onnx_node(b"f", b"own")), _onnx_function(b"f", b"f"), "call themselves"),
        (
            field(1, _onnx_node(b"f", b"own")),
            _onnx_function(b"f", b"g") + _onnx_function(b"g", b"f"),
            "call themselves",
        ),
        (field(1, _onnx_node(b"f", b"own")), _onnx_function(b"f") * 2, "has two functions 'f'"),
        (
            field(1, _onnx_node(b"0", b"own")),
            b"".join(_onnx_function(str(i).encode(), *[str(i + 1).encode()] * 9) for i in range(9))
            + _onnx_function(b"9"),
            "unfold to more than 500,000 nodes",
        ),
        (field(5, _onnx_tensor(2)), b"", "^$"),
        (field(5, _onnx_tensor(2**40, 2**40)), b"", "larger than its data"),
        (field(5, _onnx_tensor(*[2**62] * 1000)), b"", "larger than its data"),
        (field(5, field(1, varint(2**40)) + field(2, 1)), b"", "larger than its data"),
        (field(5, _onnx_tensor(0, 2**20, data=b"")), b"", "^$"),
    ],
)
def test_onnx_functions_end_and_operators_and_tensors_are_in_the_file(graph, more, match, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(field(1, 10) + field(7, graph) + more)
    begun = time.process_time()
    found = refusal(path)
    assert time.process_time() - begun < _SECONDS
    assert re.search(match, found), found
    assert "\n" not in found


@pytest.mark.parametrize("name", ["other.safetensors", "more/model.safetensors"])
def test_every_safetensors_file_is_opened(name, unpacked_bundle):
    path = unpacked_bundle / "models" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((unpacked_bundle / "models" / "model.safetensors").read_bytes() + b"more")
    write_checksums(unpacked_bundle)
    assert "not a complete safetensors file" in problems(unpacked_bundle)[0]
    path.write_bytes(pickle.dumps([1]))
    write_checksums(unpacked_bundle)
    assert "not a complete safetensors file" in problems(unpacked_bundle)[0]


def _tensor(begin, end, *shape):
    return f'{{"dtype":"F32","shape":{list(shape)},"data_offsets":[{begin},{end}]}}'


@pytest.mark.parametrize(
    ("header", "length", "match"),
    [
        (f'{{"a":{_tensor(0, 8, 2)}}}', None, "^$"),
        (f'{{"a":{_tensor(0, 8, 2)},"b":{_tensor(4, 8, 1)}}}', None, "not a complete safetensors file"),
        (f'{{"a":{_tensor(0, 4, 1)},"a":{_tensor(0, 8, 2)}}}', None, "names 'a' twice"),
        ("{}", 2**62, "its header would have 4,611,686,018,427,387,904 bytes"),
        ("{}", 2**64 - 1, "its header would have"),
        (f'{{"a":{_tensor(0, 8, 2**40, 2**40)}}}', None, "not a complete safetensors file"),
        ('{"a":' + "[" * 10**6, None, "not a complete safetensors file"),
        ("{" + " " * 10**7 + "}", None, "its header would have 10,000,002 bytes"),
    ],
)
def test_safetensors_of_two_readings_or_endless_ones_are_refused_in_one_line(header, length, match, tmp_path):
    path = tmp_path / "model.safetensors"
    content = (len(header) if length is None else length).to_bytes(8, "little") + header.encode() + bytes(8)
    path.write_bytes(content)
    begun = time.process_time()
    tracemalloc.start()
    try:
        found = refusal(path)
        assert tracemalloc.get_traced_memory()[1] < _BYTES
    finally:
        tracemalloc.stop()
    assert time.process_time() - begun < _SECONDS
    assert re.search(match, found), found
    assert "\n" not in found


def test_a_checkpoint_that_unpacks_to_more_is_refused(unpacked_bundle):
    path = unpacked_bundle / "models" / "model.pt"
    with zipfile.ZipFile(path) as file:
        records = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in records.items():
            file.writestr(name, content)
    write_checksums(unpacked_bundle)
    assert "its records are compressed" in problems(unpacked_bundle)[0]


@pytest.mark.all
def test_a_trial_that_does_not_end_is_stopped_with_all_it_started(tmp_path):
    marks = [tmp_path / "begun", tmp_path / "later"]
    (tmp_path / "configs").mkdir()
    child = tmp_path / "child.py"
    child.write_text(
        f"import pathlib, time\npathlib.Path({str(marks[0])!r}).touch()\ntime.sleep(12)\n"
        f"pathlib.Path({str(marks[1])!r}).touch()\n"
    )
    (tmp_path / "configs" / "inference.yaml").write_text(
        "imports: [$import subprocess, $import sys, $import time]\n"
        f"run:\n  - $subprocess.Popen([sys.executable, {str(child)!r}])\n  - $time.sleep(60)\n"
    )
    begun = time.monotonic()
    config = str(tmp_path / "configs" / "inference.yaml")
    with pytest.raises(ValueError, match=r"^stopped after 8 s, the limit of each step .* --trial_minutes$"):
        run_isolated("run", "--config_file", config, limits=TrialLimits(seconds=8))
    assert time.monotonic() - begun < 11
    assert marks[0].exists()
    time.sleep(begun + 22 - time.monotonic())
    assert not marks[1].exists()


def test_a_trial_is_stopped_in_time(tmp_path):
    config = tmp_path / "inference.yaml"
    config.write_text("imports: [$import time]\nrun: [$time.sleep(60)]\n")
    begun = time.monotonic()
    with pytest.raises(ValueError, match=r"^stopped after 1 s, the limit of each step"):
        run_isolated("run", "--config_file", str(config), limits=TrialLimits(seconds=1))
    assert time.monotonic() - begun < 5


def test_memory_and_files_of_a_limited_process_and_its_children_end_at_the_limit(tmp_path):
    limited = "import sys; sys.path.insert(0, 'common/sharing'); import isolated; isolated._limit_resources(); "
    for code, match in [
        ("bytearray(2 ** 30)", "MemoryError"),
        ("import subprocess, sys; subprocess.run([sys.executable, '-c', 'bytearray(2 ** 30)'])", "MemoryError"),
        (f"open({str(tmp_path / 'large')!r}, 'wb').write(bytes(2 * 10 ** 6))", "File too large|No space"),
        ("bytearray(2 ** 20)", "^$"),
    ]:
        done = subprocess.run(
            [sys.executable, "-c", limited + code],
            env={**os.environ, "MULTIMAG_TRIAL_LIMITS": f"{2**29} {10**6}"},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )
        assert re.search(match, done.stderr), done.stderr
    assert (tmp_path / "large").stat().st_size <= 10**6


@pytest.mark.all
def test_a_trial_gets_no_more_memory_than_its_limit(tmp_path):
    (tmp_path / "configs").mkdir()
    config = tmp_path / "configs" / "inference.yaml"
    config.write_text("run: [$len(bytearray(6 * 2 ** 30))]\n")
    with pytest.raises(ValueError, match=r"limited to 4 GiB a process: give more with --trial_memory_gb$"):
        run_isolated("run", "--config_file", str(config), limits=TrialLimits(memory=4 * 2**30))
    config.write_text("run: [$len(bytearray(2 ** 20))]\n")
    run_isolated("run", "--config_file", str(config), limits=TrialLimits(memory=4 * 2**30))


@pytest.mark.parametrize(("size", "mpp", "labels"), [(10**9, 0.5, 2), (64, 1e-9, 2), (64, 0.0, 2), (64, 0.5, 0)])
def test_a_slide_of_any_size_is_not_made(size, mpp, labels, tmp_path):
    with pytest.raises(ValueError, match="cannot be made for the trial run"):
        write_smoke_slide(tmp_path, [{"mpp": mpp}], {"mpp": 0.5, "size": size}, labels)
    assert list(tmp_path.iterdir()) == []


def test_settings_are_read_from_regular_files_only(tmp_path):
    (tmp_path / "a.yaml").symlink_to("/dev/zero")
    with pytest.raises(BundleFileError, match="a link or no regular file"):
        read_settings(tmp_path / "a.yaml")
