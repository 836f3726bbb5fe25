"""Commands, their help and their errors."""

from __future__ import annotations

import ast
import errno
import inspect
import subprocess
import sys

import pytest

from common import __version__
from common.__main__ import COMMANDS
from common.cli.dispatch import load, run
from common.cli.errors import EXIT_CODES, one_line, report_errors
from common.errors import UnreadableFileError
from tests.conftest import DMMN, REPOSITORY

PLACES = {name: place for group in COMMANDS.values() for name, place in group.items()}


def refused(capsys, *words: str) -> str:
    """Run a command that must be refused with exit code 2 and one line; return the line."""
    with pytest.raises(SystemExit) as leaving:
        run(COMMANDS, words)
    assert leaving.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    return printed.err


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["segment", "--help"], ["datalist", "folder", "--help"]])
def test_help_and_version_import_nothing_heavy(words):
    code = (
        f"import sys; sys.argv = ['multimag', *{words!r}]; from common.__main__ import main; main();"
        "print([name for name in ('torch', 'monai', 'ignite', 'numpy') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert done.stdout.strip()


@pytest.mark.parametrize(("bundle", "times"), [("missing.zip", 0), (str(DMMN), 1)])
def test_loading_is_announced_once_and_only_if_something_is_loaded(bundle, times):
    command = [sys.executable, "-m", "common", "verify", bundle, "--run", "False"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode
    assert done.stderr.count("loading PyTorch and MONAI") == times


def test_the_overview_names_every_command_with_what_it_does(capsys):
    run(COMMANDS, [])
    lines = capsys.readouterr().out.splitlines()
    for name in PLACES:
        (line,) = [line for line in lines if line.startswith(f"  {name} ")]
        assert len(line.removeprefix(f"  {name}").strip()) >= 12


def test_help_and_the_docs_explain_the_exit_codes_in_the_same_words(capsys):
    run(COMMANDS, [])
    assert EXIT_CODES in " ".join(capsys.readouterr().out.split())
    assert EXIT_CODES in " ".join((REPOSITORY / "docs" / "commands.md").read_text(encoding="utf-8").split())
    assert "1 some slides failed" in EXIT_CODES
    assert "MultiMag itself has a fault" in EXIT_CODES.partition("2 the command")[0]


@pytest.mark.parametrize("name", PLACES)
def test_help_explains_every_option_of_a_command(name, capsys):
    run(COMMANDS, [*name.split(), "--help"])
    printed = capsys.readouterr().out
    assert printed.startswith(f"multimag {name}")
    lines = printed.splitlines()
    for key, one in inspect.signature(load(PLACES[name])).parameters.items():
        shown = "--KEY VALUE" if one.kind is one.VAR_KEYWORD else key
        heads = [
            number
            for number, line in enumerate(lines)
            if line.startswith(("  --", *(f"  {key.upper()}",))) and shown.lower() in line.lower().split(" (")[0]
        ]
        assert heads, key
        assert lines[heads[0] + 1].startswith("      "), f"{key} is not explained"


@pytest.mark.parametrize("name", PLACES)
def test_a_command_that_takes_a_slide_and_its_mpp_takes_its_series_too(name):
    parameters = inspect.signature(load(PLACES[name])).parameters
    reads = [one for one in ("slide", "slides") if one in parameters and "str" in str(parameters[one].annotation)]
    if reads and "mpp" in parameters:
        assert "series" in parameters


def test_the_demonstration_reads_the_series_that_is_asked_for(monkeypatch):
    given = []
    monkeypatch.setattr("common.cli.demo.demo", lambda *values: given.append(values))
    run(COMMANDS, ["demo", "a.scn", "--mpp", "0.5", "--output", "out", "--series", "2"])
    assert given == [("a.scn", 0.5, "out", 2)]


@pytest.mark.parametrize("name", PLACES)
def test_a_command_is_at_most_ten_lines_that_call_the_library(name):
    function = load(PLACES[name])
    lines, _ = inspect.getsourcelines(function)
    body = ast.parse("".join(lines)).body[0].body
    first = body[1] if ast.get_docstring(ast.parse("".join(lines)).body[0]) else body[0]
    assert len([line for line in lines[first.lineno - 1 :] if line.strip()]) <= 10


def test_the_version_is_the_package_s(capsys):
    run(COMMANDS, ["--version"])
    assert capsys.readouterr().out == f"multimag {__version__}\n"


def test_a_misspelt_command_names_the_nearest(capsys):
    assert "Did you mean multimag segment?" in refused(capsys, "segmet", "a.svs")
    assert "multimag datalist folder or multimag datalist folds" in refused(capsys, "datalist", "a", "b")


@pytest.mark.parametrize("name", PLACES)
def test_every_command_refuses_a_misspelt_option_before_it_runs(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    function = load(PLACES[name])
    required = [
        one
        for one in inspect.signature(function).parameters.values()
        if one.default is one.empty and one.kind in (one.POSITIONAL_OR_KEYWORD, one.VAR_POSITIONAL)
    ]
    values = {"checkpoint": "model.pt", "bundle": "dmmn"}
    words = [values.get(one.name, "x.json") for one in required]
    if name == "cohort":
        (tmp_path / "x.json").write_text('{"testing": [{"image": "a.svs"}]}')
    line = refused(capsys, *name.split(), *words, "--otput", "somewhere")
    assert "otput" in line
    if "output" in inspect.signature(function).parameters or name in ("segment", "train", "evaluate", "cohort"):
        assert "output" in line.split("otput", 1)[1]
    assert [path.name for path in tmp_path.iterdir() if path.name != "x.json"] == []


def test_a_missing_argument_is_named(capsys):
    assert "multimag evaluate: CHECKPOINT is missing." in refused(capsys, "evaluate", "datalist.json")
    assert "multimag compare: --datalist is missing." in refused(capsys, "compare", "a", "b")
    assert "multimag report: --output needs a value." in refused(capsys, "report", "a", "--output")
    assert "multimag report: --output needs a value." in refused(capsys, "report", "--output", "--slides", "a")
    assert "multimag report: too many arguments." in refused(capsys, "report", *"abcdefgh")


def test_words_that_would_be_dropped_are_refused(capsys):
    assert "multimag report: nothing is read behind --." in refused(capsys, "report", "a", "--", "--output", "b")
    assert "--output is given twice." in refused(capsys, "report", "a", "--output", "b", "--output", "c")
    assert "multimag report: --output needs a value." in refused(capsys, "report", "a", "--output=")
    assert "--seed must be a number, not 'abc'" in refused(capsys, "phantom", "a", "--seed", "abc")


def test_names_stay_as_they_are_typed(monkeypatch):
    given = []

    def segment(*slides: str, output: str = "out", config: str | tuple[str, ...] = (), **settings: object) -> None:
        given.append((slides, output, config, settings))

    monkeypatch.setattr("common.cli.segment.segment", segment)
    words = ["segment", "2024", "h #1.tif", "--output", "3", "--name_by", "col #1", "--mpp", "0.5", "--tissue"]
    run(COMMANDS, [*words, "--config", "a.yaml,b.yaml", "--outputs", "['prediction.dcm']"])
    settings = {"name_by": "col #1", "mpp": 0.5, "tissue": True, "outputs": ["prediction.dcm"]}
    assert given == [(("2024", "h #1.tif"), "3", "a.yaml,b.yaml", settings)]


def test_a_closed_output_neither_stops_the_work_nor_changes_the_code(tmp_path):
    code = (
        "import sys; from common.cli.dispatch import run; import common.cli.share as share;"
        "share.bundles = lambda: [print('x', flush=True), open('done', 'w').close(), sys.exit(1)];"
        "run({'a': {'bundles': 'share:bundles'}}, ['bundles'])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.wait() == 1
    assert process.stderr.read() == b""
    process.stderr.close()
    assert (tmp_path / "done").exists()


def test_the_earlier_name_of_an_option_is_understood(capsys, tmp_path):
    with pytest.raises(SystemExit) as leaving:
        run(COMMANDS, ["report", str(tmp_path / "nothing"), "--out", "page.html"])
    assert leaving.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "--out is called --output now",
        f"error: {tmp_path / 'nothing'}: no such folder",
    ]


def test_a_folder_called_by_a_number_stays_a_name(capsys):
    assert "error: 2023: no such folder" in refused(capsys, "report", "2023")


def _raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def _wrapped_by_monai(cause: Exception) -> RuntimeError:
    try:
        try:
            raise cause
        except Exception as first:
            raise RuntimeError("Failed to instantiate") from first
    except RuntimeError as error:
        return error


def test_known_errors_are_one_line_however_deep_they_are_wrapped():
    known = UnreadableFileError("a.svs", "a damaged tile", "Get another copy")
    assert one_line(_wrapped_by_monai(known)) == "a.svs: a damaged tile. Get another copy"
    full = OSError(errno.ENOSPC, "No space left on device", "out/prediction.tif")
    assert one_line(_wrapped_by_monai(full)) == (
        "out/prediction.tif: the disk is full. Free some space, or choose another --output; the same command resumes"
    )
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory", "a.svs")
    assert one_line(missing) == "a.svs: No such file or directory"


def test_faults_of_ours_keep_their_traceback(capsys):
    assert one_line(_raised(TypeError("x"))) is None
    # Raised by a library, not for the user.
    assert one_line(_raised(ValueError("operands could not be broadcast"))) is None
    with pytest.raises(SystemExit) as leaving, report_errors():
        raise KeyError("x")
    assert leaving.value.code == 1
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert "please report" in printed


def test_debug_shows_where_a_known_error_arose(capsys):
    with pytest.raises(SystemExit):
        run(COMMANDS, ["report", "nowhere", "--debug"])
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert printed.endswith("error: nowhere: no such folder\n")


def test_ctrl_c_leaves_with_130(capsys):
    with pytest.raises(SystemExit) as leaving, report_errors():
        raise KeyboardInterrupt
    assert leaving.value.code == 130
    assert capsys.readouterr().err == (
        "interrupted. Finished slides, blocks and epochs are kept: the same command resumes\n"
    )


def test_names_in_errors_are_printed_on_one_line_without_control_characters(capsys):
    error = UnreadableFileError("a\x1b[2J\rb\u202e.svs", "a damaged\ntile", "Get another copy")
    assert one_line(error) == "a\\x1b[2J b\\u202e.svs: a damaged tile. Get another copy"
    # Inference leaves so where slides failed; Python itself would print the text.
    with pytest.raises(SystemExit) as leaving, report_errors():
        raise SystemExit("1 of 2 slides could not be segmented:\na\x1b[2J.svs")
    assert leaving.value.code == 1
    assert capsys.readouterr().err == "1 of 2 slides could not be segmented:\na\\x1b[2J.svs\n"


def test_nothing_that_a_command_prints_or_logs_has_control_characters_but_those_of_progress_bars():
    code = (
        "import logging, sys, tqdm; from common.cli.dispatch import run; import common.cli.share as share\n"
        "def bundles():\n"
        "    name = 'a\\x1b]0;owned\\x07\\r\\x1b[A\\nb'\n"
        "    print(name)\n"
        "    sys.stdout.writelines([name])\n"
        "    logging.getLogger('common.slides').warning('%s: no', name)\n"
        "    for _ in tqdm.tqdm([1], desc='outer'):\n"
        "        list(tqdm.tqdm([1], desc='\\x1b[2J', leave=False))\n"
        "    raise KeyError(name)\n"
        "share.bundles = bundles; run({'a': {'bundles': 'share:bundles'}}, ['bundles'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=REPOSITORY, check=False)
    shown = r"a\x1b]0;owned\x07\r\x1b[A"
    assert done.stdout.decode() == f"{shown}\nb\n{shown}\nb"
    printed = done.stderr.decode()
    assert f"{shown}\\nb: no\n" in printed
    assert "\\x1b[2J:" in printed
    # A bar returns to the beginning of its line, and the inner one moves up to the outer one.
    assert "\router" in printed
    assert "\x1b[A" in printed
    assert not set(printed.replace("\x1b[A", "")) & set("\x1b\x07")
