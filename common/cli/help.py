"""Make help from signatures and docstrings, so that it cannot differ from the code."""

from __future__ import annotations

import inspect
import re
import shutil
import textwrap
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from .errors import EXIT_CODES

_ARGUMENT = re.compile(r"^(\*{0,2}\w+(?:, \w+)*): (.*)$")


def overview(commands: Mapping[str, Mapping[str, str]], program: str) -> str:
    """Return all commands by group, one per line."""
    width = max(len(name) for group in commands.values() for name in group)
    lines = [f"{program}: whole-slide segmentation at several magnifications, as MONAI bundles.", ""]
    for group, members in commands.items():
        lines.append(group)
        for name, place in members.items():
            module, function = place.split(":")
            doc = getattr(import_module(f".{module}", __package__), function).__doc__ or ""
            lines.append(f"  {name:<{width}}  {_first_clause(doc)}")
        lines.append("")
    lines += [
        f"{program} COMMAND --help explains one; {program} --version says which version this is.",
        *textwrap.wrap(f"--debug shows where an error arose. {EXIT_CODES}", 110),
    ]
    return "\n".join(lines)


def _first_clause(doc: str) -> str:
    """Return the first sentence of a docstring; if it is long, only up to its first punctuation mark."""
    sentence = re.split(r"(?<! al)\. ", " ".join(doc.split("\n\n")[0].split()))[0].rstrip(".")
    return sentence if len(sentence) <= 80 else re.split("[:;,]", sentence)[0]


def command_help(function: Callable[..., Any], name: str) -> str:
    """Return the usage of a command, its description and its options."""
    doc = inspect.cleandoc(function.__doc__ or "")
    description, _, listed = doc.partition("\nArgs:\n")
    explained = _explained(listed)
    parameters = inspect.signature(function).parameters
    width = max(60, min(100, shutil.get_terminal_size().columns - 2))
    lines = [_usage(parameters, name), "", *_wrapped(description, width), ""]
    for key, one in parameters.items():
        default = "" if one.default in (inspect.Parameter.empty, None, (), "") else f" (default: {one.default})"
        lines.append(f"  {_shown(key, one)}{default}")
        lines += textwrap.wrap(explained.get(key, ""), width, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines)


def _usage(parameters: Mapping[str, inspect.Parameter], name: str) -> str:
    words = []
    for key, one in parameters.items():
        if one.kind is inspect.Parameter.VAR_POSITIONAL:
            words.append(f"{key.upper()} …")
        elif one.kind is inspect.Parameter.VAR_KEYWORD:
            words.append("[--KEY VALUE …]")
        elif one.default is inspect.Parameter.empty:
            words.append(f"--{key} {key.upper()}" if one.kind is inspect.Parameter.KEYWORD_ONLY else key.upper())
    optional = any(one.default is not inspect.Parameter.empty for one in parameters.values())
    return " ".join([name, *words, *(["[OPTIONS]"] if optional else [])])


def _shown(key: str, one: inspect.Parameter) -> str:
    if one.kind is inspect.Parameter.VAR_POSITIONAL:
        return f"{key.upper()} …"
    if one.kind is inspect.Parameter.VAR_KEYWORD:
        return "--KEY VALUE …"
    if one.default is inspect.Parameter.empty and one.kind is not inspect.Parameter.KEYWORD_ONLY:
        return key.upper()
    return f"--{key}"


def _explained(listed: str) -> dict[str, str]:
    """Return the description of each parameter in the section Args of a docstring."""
    found: dict[str, str] = {}
    names: list[str] = []
    for line in textwrap.dedent(listed).splitlines():
        match = _ARGUMENT.match(line)
        if match:
            names = [name.lstrip("*") for name in match.group(1).split(", ")]
            found.update(dict.fromkeys(names, match.group(2)))
        elif not line.startswith(" ") and line.strip():
            break  # another section
        else:
            found.update({name: f"{found[name]} {line.strip()}".strip() for name in names})
    return found


def _wrapped(text: str, width: int) -> list[str]:
    """Return wrapped paragraphs; indented lines (examples) are kept."""
    lines: list[str] = []
    for paragraph in text.strip().split("\n\n"):
        if paragraph.startswith(" "):
            lines += paragraph.splitlines()
        else:
            lines += textwrap.wrap(" ".join(paragraph.split()), width)
        lines.append("")
    return lines[:-1]
