"""Zips of bundles: the same every time, and unpacked only if nothing is out of place."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path

import pytest

from common.sharing.archive import BundleFileError, check_checksums, unpack, unpacked, write_checksums, write_zip


@pytest.fixture
def bundle(tmp_path) -> Path:
    folder = tmp_path / "made" / "my_bundle"
    (folder / "configs").mkdir(parents=True)
    (folder / "LICENSE").write_text("Apache-2.0\n")
    (folder / "configs" / "train.yaml").write_text("epochs: 1\n")
    write_checksums(folder)
    return folder


@pytest.fixture
def archive(bundle, tmp_path) -> Path:
    write_zip(bundle, tmp_path / "my_bundle.zip")
    return tmp_path / "my_bundle.zip"


def refused(path: Path, into: Path, match: str, **limits: int) -> None:
    """Nothing is left of a zip that is not unpacked."""
    into.mkdir()
    with pytest.raises(BundleFileError, match=match):
        unpack(path, into, **limits)
    assert list(into.iterdir()) == []


def zipped(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries:
            file.writestr(name, content)
    return path


def test_what_was_zipped_comes_out_again(bundle, archive, tmp_path):
    found = unpack(archive, tmp_path / "out")
    assert found.name == "my_bundle"
    assert sorted(str(path.relative_to(found)) for path in found.rglob("*") if path.is_file()) == [
        "LICENSE",
        "SHA256SUMS",
        "configs/train.yaml",
    ]
    assert (found / "configs" / "train.yaml").read_text() == "epochs: 1\n"
    with unpacked(archive) as folder:
        assert check_checksums(folder)
    assert not folder.exists()
    with unpacked(bundle) as folder:
        assert folder == bundle


def test_the_same_files_make_the_same_bytes(bundle, archive, tmp_path):
    copy = tmp_path / "copy" / "my_bundle"
    shutil.copytree(bundle, copy, copy_function=shutil.copyfile)
    (copy / "scripts" / "__pycache__").mkdir(parents=True)
    (copy / "scripts" / "__pycache__" / "a.pyc").write_bytes(b"left behind")
    write_zip(copy, tmp_path / "copy.zip")
    assert (tmp_path / "copy.zip").read_bytes() == archive.read_bytes()


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("my_bundle/../../evil.py", "leads out"),
        ("my_bundle//evil.py", "leads out"),
        ("my_bundle/./evil.py", "leads out"),
        ("./my_bundle/evil.py", "leads out"),
        ("my_bundle/scripts/__pycache__/evil.py", "left behind"),
        ("my_bundle/configs", "no kind of file"),
        (f"my_bundle/{'x' * 300}.py", "cannot be unpacked"),
        ("../evil.py", "leads out"),
        ("/etc/evil.conf", "absolute"),
        ("C:/evil.conf", "absolute"),
        ("my_bundle\\..\\evil.py", "not every system"),
        ("my_bundle/a\x01.py", "not every system"),
        ("my_bundle/run.sh", "no kind of file"),
        ("my_bundle/models/model.pkl", "no kind of file"),
        ("my_bundle/configs/TRAIN.yaml", "in it twice"),
        ("other/train.yaml", "must hold one folder"),
        ("train.yaml", "must hold one folder"),
    ],
)
def test_names_out_of_place_are_refused(name, match, tmp_path):
    path = zipped(tmp_path / "bad.zip", ("my_bundle/configs/train.yaml", b"epochs: 1"), (name, b"x"))
    refused(path, tmp_path / "out", match)
    assert not (tmp_path / "evil.py").exists()


def test_an_absolute_path_behind_the_bundle_s_name_is_refused(tmp_path):
    aim = tmp_path / "elsewhere.py"
    refused(zipped(tmp_path / "bad.zip", (f"my_bundle/{aim}", b"x")), tmp_path / "out", "leads out")
    assert not aim.exists()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(kind, tmp_path):
    entry = zipfile.ZipInfo("my_bundle/docs/README.md")
    entry.external_attr = (kind | 0o777) << 16
    refused(zipped(tmp_path / "bad.zip", (entry, b"/etc/passwd")), tmp_path / "out", "link or a device")


def test_too_much_is_refused_before_it_is_unpacked(tmp_path):
    path = zipped(tmp_path / "bomb.zip", ("my_bundle/models/model.pt", bytes(10**6)))
    assert path.stat().st_size < 5000
    refused(path, tmp_path / "out", "would unpack to 1,000,000 bytes", most_bytes=10**6 - 1)


def test_files_that_share_bytes_are_refused(tmp_path):
    path = zipped(tmp_path / "bomb.zip", ("my_bundle/a.txt", b"a" * 999), ("my_bundle/b.txt", b"b" * 999))
    with zipfile.ZipFile(path, "a") as file:
        file.getinfo("my_bundle/b.txt").compress_size = 10**6
        file.writestr("my_bundle/c.txt", b"c")
    refused(path, tmp_path / "out", "overlap|not a complete zip")


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_a_zip_that_was_cut_short_is_refused(keep, archive, tmp_path):
    content = archive.read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[: int(keep * len(content))])
    refused(tmp_path / "cut.zip", tmp_path / "out", "not a complete zip file")


def test_a_damaged_byte_is_found(archive, tmp_path):
    content = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as file:
        entry = file.getinfo("my_bundle/LICENSE")
    content[entry.header_offset + 30 + len(entry.filename) + 25] ^= 0xFF
    (tmp_path / "damaged.zip").write_bytes(content)
    refused(tmp_path / "damaged.zip", tmp_path / "out", "not a complete zip file")


def test_wrong_sums_are_refused(bundle, tmp_path):
    (bundle / "configs" / "train.yaml").write_text("epochs: 2\n")
    write_zip(bundle, tmp_path / "changed.zip")
    refused(tmp_path / "changed.zip", tmp_path / "out", r"train\.yaml: its SHA-256 is not")
    (bundle / "configs" / "train.yaml").write_text("epochs: 1\n")
    (bundle / "configs" / "more.yaml").write_text("a: 1\n")
    with pytest.raises(BundleFileError, match="not among the files"):
        check_checksums(bundle)
    (bundle / "configs" / "more.yaml").unlink()
    (bundle / "LICENSE").unlink()
    with pytest.raises(BundleFileError, match="it is not there"):
        check_checksums(bundle)


def test_what_is_there_is_not_overwritten(archive, tmp_path):
    (tmp_path / "out" / "my_bundle").mkdir(parents=True)
    with pytest.raises(ValueError, match="is there already"):
        unpack(archive, tmp_path / "out")
    with pytest.raises(BundleFileError, match="no such file"):
        unpack(tmp_path / "none.zip", tmp_path / "out")
