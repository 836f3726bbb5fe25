"""Write the configs of an exported bundle: overlays merged, comments kept, the package renamed."""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import yaml as plain_yaml
from monai.bundle import ConfigParser
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ..renamed_keys import KEYS, spelling
from .closure import NAME
from .texts import read_text, yaml_content

# The package's name in an exported bundle: the only one that MONAI Label unloads between bundles.
SCRIPTS = "scripts"
# Paths on one machine, weights that a training starts from, and the row of a paper's table that weights are named
# after: an exported bundle has one file of weights, models/model.pt, and trains from scratch.
LOCAL = frozenset(
    (
        *("bundle_root", "dataset_dir", "datalist", "slides", "output_dir"),
        *("cache_dir", "patch_cache_dir", "patch_cache"),
        *("styled", "resume", "device", "devices", "rank", "world_size", "imports"),
        *("checkpoint", "checkpoint_dir", "checkpoint_name", "variant", "overlays"),
        *("init_weights", "branch_init_weights", "freeze_branches", "encoder_weights"),
        *("slice_encoder_weights", "context_encoder_weights"),
    )
)

_REFERENCE = re.compile(r"[@%]([A-Za-z_]\w*)")
_NAMED = re.compile(rf"\b{NAME}(?=\.[A-Za-z_])")
# A line that only an installed project can run: it looks for folders that hide the package.
_CLASH = re.compile(r"^ *- \$import multimag\.clash.*\n", re.MULTILINE)
_RENAMED = re.compile(rf"\b{SCRIPTS}(?=\.[A-Za-z_])")


def renamed(text: str) -> str:
    """Return a config in which everything from this package comes from :data:`SCRIPTS`, a name that nothing hides."""
    return _NAMED.sub(SCRIPTS, _CLASH.sub("", text))


def parsed(config: Path, package: str = NAME) -> ConfigParser:
    """Return the parser of an exported bundle's config, with another package in place of the code that it carries.

    By default that is this package, so that no code of the bundle is run.
    """
    # The parser changes its content in place, and the content is cached.
    return ConfigParser(copy.deepcopy(yaml_content(_RENAMED.sub(package, read_text(config)))))


def strings_in(value: Any) -> Iterator[str]:
    """Yield every text in a config, however deeply nested."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from strings_in(part)
    elif isinstance(value, str):
        yield value


def merge_overlays(config: str, overlays: Sequence[str]) -> str:
    """Return a config's text with overlays merged as MONAI merges them, comments kept.

    An overlay's key is taken if the config has it, or a taken key refers to it; keys of :data:`LOCAL` never are.

    Args:
        config: YAML text.
        overlays: YAML texts, later ones over earlier ones.

    Raises:
        ValueError: an overlay is not YAML mapping, or changes a key that the config does not have.
    """
    if not overlays:
        return config
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(type(None), lambda to, _: to.represent_scalar("tag:yaml.org,2002:null", "null"))
    content = yaml.load(config)
    for text in overlays:
        try:
            overlay = yaml.load(text)
        except YAMLError as error:
            raise ValueError(f"an overlay is not YAML: {error}") from error
        if not isinstance(overlay, Mapping):
            raise ValueError("an overlay must be a YAML mapping of a config's keys")
        if "imports" in content:
            content["imports"].extend(line for line in overlay.get("imports", ()) if line not in content["imports"])
        for key in _taken(content, overlay):
            _put(content, key, overlay[key])
    written = io.StringIO()
    yaml.dump(content, written)
    return written.getvalue()


def check_known(overlays: Sequence[str], configs: Sequence[str]) -> None:
    """Check that overlays delete no key, and have none that no config has or refers to: it may be misspelt.

    Args:
        overlays: overlays that are merged.
        configs: all other configs of the bundle, since a key may be of use to one ablation only.

    Raises:
        ValueError: an overlay does.
    """
    contents = [plain_yaml.safe_load(text) for text in configs]
    known = {_root(key) for content in contents for key in content}
    known |= {name for content in contents for name in _references(content)}
    for overlay in (plain_yaml.safe_load(text) for text in overlays):
        if any(key.startswith("~") for key in overlay):
            raise ValueError("an overlay deletes keys (~), which cannot be merged. Give it at run time instead")
        known |= _references(overlay)
        lost = [key for key in overlay if not (_root(key) in known or _is_local(_root(key)))]
        if lost:
            now = spelling(_root(lost[0]), known)
            hint = "Is it misspelt?" if now == _root(lost[0]) else f"It is now {now}"
            raise ValueError(f"no config of the bundle has {lost[0]!r}, which an overlay changes. {hint}")


def _root(key: str) -> str:
    return re.split("#|::", key.lstrip("+"))[0]


def _is_local(key: str) -> bool:
    """Return whether a key, by this or the previous version's name, is one of :data:`LOCAL`."""
    return bool({key, *KEYS.get(key, ())} & LOCAL)


def _taken(content: Mapping[str, Any], overlay: Mapping[str, Any]) -> list[str]:
    usable = [key for key in overlay if not _is_local(_root(key))]
    taken = {key for key in usable if key.lstrip("+") in content or _root(key) in content}
    while True:
        wanted = {name for key in taken for name in _references(overlay[key])}
        more = {key for key in usable if _root(key) in wanted} - taken
        if not more:
            return [key for key in overlay if key in taken]
        taken |= more


def _references(value: Any) -> set[str]:
    return {name for text in strings_in(value) for name in _REFERENCE.findall(text)}


def _put(content: MutableMapping[str, Any], key: str, value: Any) -> None:
    adds, key = key.startswith("+"), key.lstrip("+")
    # An overlay may change another overlay, and then spells its keys the same way.
    path = [key] if key in content else re.split("#|::", key)
    holder: Any = content
    try:
        for part in path[:-1]:
            holder = holder[int(part) if isinstance(holder, list) else part]
        last: Any = int(path[-1]) if isinstance(holder, list) else path[-1]
        if not adds:
            holder[last] = value
        elif isinstance(holder[last], list):
            holder[last].extend(value)
        else:
            holder[last].update(value)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"an overlay changes {key!r}, which is not in the config") from error
