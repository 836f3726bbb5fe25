"""Find and call the function of a command line; misspelt words are refused before anything runs."""

from __future__ import annotations

import functools
import inspect
import logging
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import fire
from fire.decorators import SetParseFn, SetParseFns

from .. import __version__
from ..renamed_keys import OPTIONS
from .errors import CommandError, report_errors
from .help import command_help, overview
from .loading import loading_announced
from .output import SafeFormatter, safe_output

PROGRAM = "multimag"
Commands = Mapping[str, Mapping[str, str]]
# The same as fire's: a negative number is a value.
_FLAG = re.compile(r"^--?([a-zA-Z][\w#:-]*)(=.*)?$", re.DOTALL)


def run(commands: Commands, words: Sequence[str] | None = None) -> None:
    """Run a command.

    Args:
        commands: group -> command -> ``module:function`` in this package.
        words: the command line; by default the process's.

    Raises:
        SystemExit: unless everything went well; :data:`.errors.EXIT_CODES` explains its code.
    """
    words = list(sys.argv[1:] if words is None else words)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    with safe_output(), report_errors(debug):
        _log_to_stderr()
        if words[:1] in (["--version"], ["version"]):
            print(f"{PROGRAM} {__version__}")
            return
        if not words or words[0] in ("-h", "--help", "help"):
            print(overview(commands, PROGRAM))
            return
        name, rest = _command(commands, words)
        function = load(_flat(commands)[name])
        if {"-h", "--help"} & set(rest):
            print(command_help(function, f"{PROGRAM} {name}"))
            return
        _call(function, name, rest)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(SafeFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def load(place: str) -> Callable[..., Any]:
    """Return the function of a ``module:function`` in this package."""
    module, function = place.split(":")
    return getattr(import_module(f".{module}", __package__), function)


def _flat(commands: Commands) -> dict[str, str]:
    return {name: place for group in commands.values() for name, place in group.items()}


def _command(commands: Commands, words: Sequence[str]) -> tuple[str, list[str]]:
    """Return the command, which has one word or two, and the words that follow it."""
    known = _flat(commands)
    for count in (2, 1):
        name = " ".join(words[:count])
        if name in known:
            return name, list(words[count:])
    longer = [name for name in known if name.startswith(f"{words[0]} ")]
    if longer:
        raise CommandError(f"{PROGRAM} {words[0]}: say which, {' or '.join(f'{PROGRAM} {name}' for name in longer)}")
    near = get_close_matches(words[0], known, 1, 0.5)
    hint = f" Did you mean {PROGRAM} {near[0]}?" if near else ""
    raise CommandError(f"{words[0]}: no such command.{hint} {PROGRAM} --help lists all")


def _call(function: Callable[..., Any], name: str, words: Sequence[str]) -> None:
    words = [_renamed(word, function) for word in words]
    parameters = inspect.signature(function).parameters
    _check_flags(parameters, name, words)
    _check_arguments(parameters, name, words)
    with loading_announced():
        fire.Fire(_reading_values(function, name), command=list(words), name=f"{PROGRAM} {name}")


def _reading_values(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Return a function that takes values as typed, and parses only those that are not text.

    fire alone would turn a folder called 2023 into a number, and cut "h #1.tif" at its #.
    """
    parameters = inspect.signature(function).parameters

    @functools.wraps(function)
    def call(*given: Any, **options: Any) -> Any:
        read = {key: _read(value, parameters.get(key), key, name) for key, value in options.items()}
        return function(*given, **read)

    plain = {key: one for key, one in parameters.items() if one.kind is one.POSITIONAL_OR_KEYWORD}
    typed = {key: functools.partial(_read, one=one, key=key, name=name) for key, one in plain.items()}
    return SetParseFns(**typed)(SetParseFn(str)(call))


def _read(value: Any, one: inspect.Parameter | None, key: str, name: str) -> Any:
    """Return an option's value: text if the function takes text, else a Python value."""
    if not isinstance(value, str):
        return value
    annotation = str(one.annotation) if one is not None else ""
    if annotation in ("str", "str | None"):
        return value
    comment = "#" in value and not value.lstrip().startswith(("[", "{", "(", "'", '"'))
    read = value if comment else fire.parser.DefaultParseValue(value)
    number = annotation.split(" ")[0] in ("int", "float")
    if number and not (read is None or (isinstance(read, int | float) and not isinstance(read, bool))):
        raise CommandError(f"{PROGRAM} {name}: --{key} must be a number, not {value!r}")
    return read


def _renamed(word: str, function: Callable[..., Any]) -> str:
    found = _FLAG.match(word)
    before = found.group(1) if found else ""
    now = OPTIONS.get(before)
    parameters = inspect.signature(function).parameters
    if now is None or now not in parameters or before in parameters:
        return word
    print(f"--{before} is called --{now} now", file=sys.stderr)
    return f"--{now}{found.group(2) or ''}" if found else word


def _check_flags(parameters: Mapping[str, inspect.Parameter], name: str, words: Sequence[str]) -> None:
    """Refuse options that the function does not take: fire would run it first, and complain afterwards.

    Functions that take further keys (of configs) check these themselves.
    """
    if _takes_keys(parameters):
        return
    options = [key for key, one in parameters.items() if one.kind is not inspect.Parameter.VAR_POSITIONAL]
    for word in words:
        found = _FLAG.match(word)
        key = found.group(1).replace("-", "_") if found else None
        if key is None or key in options or (key.startswith("no") and key[2:] in options):
            continue
        if len(key) == 1 and sum(option.startswith(key) for option in options) == 1:
            continue
        near = get_close_matches(key, options, 1, 0.5)
        hint = f" Did you mean --{near[0]}?" if near else ""
        raise CommandError(f"{PROGRAM} {name}: no option --{key}.{hint} {PROGRAM} {name} --help lists all")


def _takes_keys(parameters: Mapping[str, inspect.Parameter]) -> bool:
    return any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())


def _check_arguments(parameters: Mapping[str, inspect.Parameter], name: str, words: Sequence[str]) -> None:
    """Refuse a command that lacks an argument, and options without a value."""
    if "--" in words:
        raise CommandError(f"{PROGRAM} {name}: nothing is read behind --. Leave it out")
    flags, positional = _parsed(words)
    for key, given in flags.items():
        one = parameters.get(key)
        if not given and one is not None and not isinstance(one.default, bool):
            raise CommandError(f"{PROGRAM} {name}: --{key} needs a value. {PROGRAM} {name} --help explains it")
    for key, one in parameters.items():
        if key in flags or one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
            continue
        if one.kind is one.POSITIONAL_OR_KEYWORD and positional:
            positional -= 1
        elif one.default is one.empty:
            what = f"--{key}" if one.kind is one.KEYWORD_ONLY else key.upper()
            raise CommandError(f"{PROGRAM} {name}: {what} is missing. {PROGRAM} {name} --help explains it")
    several = any(one.kind is one.VAR_POSITIONAL for one in parameters.values())
    if positional and not several:
        raise CommandError(f"{PROGRAM} {name}: too many arguments. {PROGRAM} {name} --help explains them")


def _parsed(words: Sequence[str]) -> tuple[dict[str, str | None], int]:
    """Return the options with their values (None for those without), and the number of other words."""
    flags: dict[str, str | None] = {}
    positional, rest = 0, list(words)
    while rest:
        word = rest.pop(0)
        found = _FLAG.match(word)
        if not found:
            positional += 1
            continue
        key, value = found.group(1).replace("-", "_"), found.group(2)
        if key in flags:
            raise CommandError(f"--{key} is given twice. Separate several values with commas")
        follows = rest and not _FLAG.match(rest[0])
        flags[key] = value[1:] if value else (rest.pop(0) if follows else None)
    return flags, positional
