"""Blocks that all five bundles have are equal between them: a bundle stands alone, so each has its own copy."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY

# Places of configs that are of a method, or of its paper.
OF_A_METHOD = {
    "train.yaml": (
        *("scheme", "fields_of_view", "target", "fill", "network_def", "checkpoint_name", "run"),
        *("epochs", "batch_size", "samples_per_epoch", "sampler", "optimizer", "lr_scheduler", "lr_epoch_level"),
        *(
            "loss",
            "class_weights",
            "min_labelled",
            "stride",
            "validation_patches",
            "save_best#key_metric_negative_sign",
        ),
        *("load_patch#auxiliary_targets", "check_views#upsampling"),
        *("train#inferer#upsampling", "train#trainer#network"),
        *("train#dataset", "train#preprocessing", "train#handlers", "train#key_metric"),
        *("validate#dataset", "validate#preprocessing", "validate#key_metric", "validate#additional_metrics"),
        *("validate#evaluator#additional_metrics", "validate#evaluator#metric_cmp_fn"),
    ),
    "inference.yaml": (
        *("scheme", "fields_of_view", "target", "fill", "network_def", "checkpoint", "preprocessing", "imports"),
        *("context", "overlap", "block", "tissue", "inferer#only_regions"),
    ),
    "evaluate.yaml": (
        *("checkpoint", "elsewhere", "background", "context_reliance", "validate#dataset#chosen"),
        *("validate#preprocessing", "validate#handlers", "validate#evaluator#additional_metrics"),
    ),
    "multi_gpu_train.yaml": ("network", "run"),
    "patch_cache.yaml": ("patch_cache",),
}


def places(value: Any, place: str = "") -> dict[str, Any]:
    """Return the values of a config by their places; lists are one value."""
    if not isinstance(value, dict) or not value:
        return {place: value}
    below = [places(part, f"{place}#{key}" if place else str(key)) for key, part in value.items()]
    return {name: part for found in below for name, part in found.items()}


@pytest.mark.parametrize("name", OF_A_METHOD)
def test_what_all_bundles_have_is_the_same_but_for_what_is_of_a_method(name):
    configs = [yaml.safe_load(path.read_text()) for path in sorted(REPOSITORY.glob(f"bundles/*/configs/{name}"))]
    assert len(configs) == 5
    shared = set.intersection(*map(set, configs))
    every = [places({key: config[key] for key in shared}) for config in configs]
    all_places = set().union(*every)
    first = every[0]
    differing = {
        place for place in all_places if any(place not in one or one[place] != first.get(place) for one in every)
    }
    unexpected = {
        place
        for place in differing
        if not any(place == known or place.startswith(f"{known}#") for known in OF_A_METHOD[name])
    }
    assert not unexpected


@pytest.mark.parametrize("name", OF_A_METHOD)
def test_the_list_of_places_names_none_in_vain(name):
    configs = [yaml.safe_load(path.read_text()) for path in sorted(REPOSITORY.glob(f"bundles/*/configs/{name}"))]
    there = {place for config in configs for place in places(config)}
    assert all(any(place == known or place.startswith(f"{known}#") for place in there) for known in OF_A_METHOD[name])
