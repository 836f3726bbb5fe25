"""Keys of configs, and options, of the previous version. They go with the next one.

A renamed key is known by its place: it is translated only where its new name is known and its old one is not. So a
bundle that was exported by the previous version keeps its own keys, and takes those of this version, too.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
import warnings
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any, TypeVar

_Class = TypeVar("_Class")

# Old name -> new name; of several, the one that is known at the place.
KEYS: dict[str, tuple[str, ...]] = {
    "batch_mix": ("batch_classes",),
    "branches_from": ("branch_init_weights",),
    "class_order": ("class_priority",),
    "classes": ("scored_classes",),
    "compatible": ("check_views",),
    "context_encoder_from": ("context_encoder_weights",),
    "cycle": ("lr_cycle_steps",),
    "draws": ("epoch_sampler",),
    "encoders_from": ("encoder_weights",),
    "further_targets": ("auxiliary_targets",),
    "largest_gradient": ("grad_clip_norm",),
    "mix_share": ("min_class_share",),
    # What happens to targets without tissue; or whether there are any.
    "otsu": ("background", "tissue_only"),
    "pack_dir": ("patch_cache_dir",),
    "packed": ("patch_cache",),
    "rates": ("elastic_copies",),
    "readers": ("reader_threads",),
    "restart": ("resume",),
    "row": ("variant",),
    "slice_encoder_from": ("slice_encoder_weights",),
    "start_from": ("init_weights",),
    "supervised": ("training_network",),
    "symmetries": ("tta",),
    "trunk_from": ("encoder_weights",),
}
# New name -> old value -> new value, of those that changed.
VALUES: dict[str, dict[str | None, str | None]] = {
    "background": {None: "keep", "$None": "keep", "skipped": "as_class"},
    "tta": {"all": "d4"},
}
# Old name of a config -> new name.
CONFIGS = {"packed.yaml": "patch_cache.yaml"}
# Old option of commands -> new option.
OPTIONS = {
    "out": "output",
    "box": "nms_box",
    "smallest": "itc_diameter",
    "grown": "merge_distance",
    "dispatched": "max_slides_per_second",
    "seconds_per_slide": "overhead_seconds",
}

# Key that the previous version lacked -> its values that change nothing.
ADDED: dict[str, tuple[Any, ...]] = {"output_norm": (False, "@output_norm")}
# Value of out_channels in the bundles' configs.
_CHANNELS = "$@scheme.num_channels"
# Marks of keys that an overlay adds to, or deletes.
_MARKS = "+~"
_SEPARATOR = re.compile("(#|::)")
_REFERENCE = re.compile(r"(?<=[@%])[A-Za-z_]\w*")


def spelling(name: str, known: Container[str]) -> str:
    """Return a name as a place knows it: by its new or its old name, or unchanged if the place knows neither."""
    if name in known:
        return name
    older = (old for old, new in KEYS.items() if name in new)
    return next((other for other in (*KEYS.get(name, ()), *older) if other in known), name)


def spelling_in(place: str, config: Container[str]) -> str:
    """Return a place in a config, such as ``train#draws#seed``, each part as the config spells it. References are not
    followed."""
    if place in config:
        return place
    parts = _SEPARATOR.split(place)
    inside: Any = config
    for number in range(0, len(parts), 2):
        if isinstance(inside, list):
            inside = inside[int(parts[number])] if parts[number] in map(str, range(len(inside))) else None
        elif isinstance(inside, Container) and not isinstance(inside, str):
            parts[number] = spelling(parts[number], inside)
            inside = inside.get(parts[number]) if isinstance(inside, Mapping) else None
    return "".join(parts)


def value_of(value: Any, before: str, now: str) -> Any:
    """Return the value of a key that was renamed."""
    if before == now or not isinstance(value, str | None):
        return value
    if now in VALUES:
        return VALUES[now].get(value, value)
    older = {new: old for old, new in reversed(VALUES.get(before, {}).items())}
    return older.get(value, value)


def translated(
    given: Mapping[str, Any], config: Container[str], tell: Callable[[str], object], where: str = ""
) -> dict[str, Any]:
    """Return settings with their keys and values as a config spells them.

    Args:
        given: values by key, or by place in the config.
        config: the config, or whatever has the names that are known.
        tell: takes a message for each that was renamed.
        where: name of the file or class that has them, for messages; by default they are options of a command.

    Raises:
        ValueError: a key is given by both its names.
    """
    found: dict[str, Any] = {}
    given_as: dict[str, str] = {}
    for key, value in given.items():
        plain = key.lstrip(_MARKS)
        now = key[: len(key) - len(plain)] + spelling_in(plain, config)
        if now in found:
            raise ValueError(f"{where}{': ' * bool(where)}{given_as[now]} and {key} are the same. Leave one out")
        given_as[now] = key
        before, after = _SEPARATOR.split(plain), _SEPARATOR.split(now.lstrip(_MARKS))
        found[now] = value_of(value, before[-1], after[-1])
        if any(new in KEYS.get(old, ()) for old, new in zip(before, after, strict=True)):
            tell(f"{where}: {renaming(key, now, found[now], '')}" if where else renaming(key, now, found[now]))
    return found


def renaming(old: str, new: str, value: Any, dashes: str = "--") -> str:
    """Return a sentence that says the new name of a key, and how to write it if its value is short."""
    if value is None or isinstance(value, Mapping | list | tuple) or len(str(value)) > 60:
        return f"{old} is now {new}"
    return f"{old} is now {new}: write {dashes}{new}{' ' if dashes else ': '}{value}"


def translated_overlay(
    content: Mapping[str, Any], config: Mapping[str, Any], tell: Callable[[str], object], where: str
) -> dict[str, Any]:
    """Return the content of an overlay with its keys, and its references to them, as the config below it spells them.

    Args:
        content: the overlay.
        config: what it is laid over.
        tell: takes a message for each key that was renamed.
        where: the overlay's name, for messages.

    Raises:
        ValueError: a key is given by both its names.
    """
    found = translated(content, config, tell, where)
    own = {key.lstrip(_MARKS) for key in found}
    changed = {old.lstrip(_MARKS): new.lstrip(_MARKS) for old, new in zip(content, found, strict=True)}
    names = {
        name: now
        for name in {name for text in _texts(content) for name in _REFERENCE.findall(text)}
        if name not in own and (now := changed.get(name) or spelling(name, config)) != name
    }
    for text in _texts(content):
        changed_values = [name for name in _REFERENCE.findall(text) if names.get(name) in VALUES]
        if changed_values and text.startswith("$"):
            name = changed_values[0]
            raise ValueError(f"{where}: {name} is now {names[name]}, and has other values. Change {text!r}")
    return _with_references(found, names)


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _texts(part)
    elif isinstance(value, str) and value.startswith(("$", "@", "%")):
        yield value


def _with_references(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_references(part, names) for key, part in value.items()}
    if isinstance(value, list):
        return [_with_references(part, names) for part in value]
    if isinstance(value, str) and value.startswith(("$", "@", "%")):
        return _REFERENCE.sub(lambda found: names.get(found.group(), found.group()), value)
    return value


def recorded(before: Any, now: Any) -> Any:
    """Return settings that an earlier run recorded, with those names that have changed since as those of ``now``."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        found = {key: now[key] for key, absent in ADDED.items() if key in now and now[key] in absent}
        for key, value in before.items():
            if key == "num_classes" and "out_channels" in now and key not in now:
                # Where it did not count channel 0 it was a number, or one less; the class scheme is compared by itself.
                known = isinstance(value, int) or value in (_CHANNELS, f"{_CHANNELS} - 1")
                found["out_channels"] = _CHANNELS if known and now["out_channels"] == _CHANNELS else value
                continue
            name = spelling(key, now)
            name = key if name in before else name
            found[name] = recorded(value_of(value, key, name), now.get(name))
        return found
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return [recorded(one, other) for one, other in zip(before, now, strict=True)]
    if isinstance(before, str) and isinstance(now, str):
        respelt = _with_references(before, {old: new[0] for old, new in KEYS.items()})
        return now if respelt == now else before
    return before


def takes_old_names(cls: type[_Class]) -> type[_Class]:
    """Let a class take its parameters by their names of the previous version, with a warning.

    Raises:
        TypeError: when made with both names of a parameter.
    """
    made = cls.__init__
    known = inspect.signature(made).parameters

    @functools.wraps(made)
    def make(self: Any, *args: Any, **given: Any) -> None:
        if set(given) <= set(known):
            return made(self, *args, **given)

        def tell(message: str) -> None:
            warnings.warn(message.partition(": write")[0], FutureWarning, stacklevel=4)

        try:
            respelt = translated(given, known.keys(), tell, cls.__name__)
        except ValueError as error:
            raise TypeError(str(error)) from error
        return made(self, *args, **respelt)

    cls.__init__ = make  # type: ignore[method-assign]
    return cls


def refuse_old_keys() -> None:
    """Stop a run whose config has a key of the previous version, which MONAI would pass over without a word.

    It is a component of the config: it finds the parser that makes it among its callers.

    Raises:
        SystemExit: there is such a key; says the new one.
        RuntimeError: no parser makes it.
    """
    config = _calling_config()
    old = _old_place(config)
    if old is not None:
        around, value = _inside(config, old[:-1]), _inside(config, old)
        new = next(name for name in KEYS[old[-1]] if name in around)
        before, now = ("#".join(map(str, (*old[:-1], name))) for name in (old[-1], new))
        raise SystemExit(f"error: {renaming(before, now, value_of(value, old[-1], new))}")


def _calling_config() -> Mapping[str, Any]:
    from monai.bundle import ConfigParser

    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        parser = frame.f_locals.get("self")
        if isinstance(parser, ConfigParser):
            return parser.get()
    raise RuntimeError("refuse_old_keys is a component of a config: let MONAI's ConfigParser make it")


def _old_place(config: Any, place: tuple[Any, ...] = ()) -> tuple[Any, ...] | None:
    """Return the first place of an old name that stands next to its new one."""
    if isinstance(config, Mapping):
        for old, new in KEYS.items():
            if old in config and any(name in config for name in new):
                return (*place, old)
    parts = config.items() if isinstance(config, Mapping) else enumerate(config if isinstance(config, list) else ())
    below = (_old_place(part, (*place, key)) for key, part in parts)
    return next((found for found in below if found is not None), None)


def _inside(config: Any, place: tuple[Any, ...]) -> Any:
    for part in place:
        config = config[part]
    return config
