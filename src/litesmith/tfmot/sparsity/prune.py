"""`prune_low_magnitude`, `prune_scope` and `strip_pruning`."""

from __future__ import annotations

from typing import Any

import keras

from litesmith.errors import RecipeError, did_you_mean
from litesmith.granularity import Granularity, NOfM, PerBlock, Unstructured
from litesmith.tfmot.layerwise import wrap
from litesmith.tfmot.models import on_any, on_model, strip_any
from litesmith.tfmot.sparsity import schedules
from litesmith.tfmot.sparsity.layers import prunable
from litesmith.tfmot.sparsity.policy import PruningPolicy
from litesmith.tfmot.sparsity.schedules import ConstantSparsity, PruningSchedule

# What a layer's constructor takes of tfmot's further keywords.
KEYWORDS = ("name", "trainable", "input_shape")


def prune_low_magnitude(
    to_prune: Any,
    pruning_schedule: PruningSchedule = ConstantSparsity(0.5, 0),  # noqa: B008  as tfmot has it
    block_size: tuple[int, int] = (1, 1),
    block_pooling_type: str = "AVG",
    pruning_policy: PruningPolicy | None = None,
    sparsity_m_by_n: tuple[int, int] | None = None,
    **kwargs: Any,
) -> Any:
    """Have the weights of smallest magnitude be zero while a layer or a model trains.

    A model is copied; the given one is left alone. A layer is changed in place and returned, built
    or not; in `clone_model(model, clone_function=…)` it stays the given model's own layer.

    Args:
        to_prune: a Keras 3 layer, a list of layers, or a model.
        pruning_schedule: when, and how far.
        block_size: (height, width) of blocks that are zero or kept together, along the input and
            the output channels of a kernel.
        block_pooling_type: how a block is ranked: "AVG" or "MAX" of its magnitudes.
        pruning_policy: which layers of a model, and which models; layers only where it allows.
        sparsity_m_by_n: (m, n) for m zeros in each n consecutive weights along the input channels;
            the schedule then only says when.
        **kwargs: for a layer: `name`, `trainable`, and `input_shape` of the first of a Sequential
            model. Without effect on models and lists, as in tfmot.

    Returns:
        The layer, the list of layers, or a new model, not compiled.

    Raises:
        ModelError: a ValueError: nothing that can be pruned.
        RecipeError: a ValueError: a wrong argument, or one that the layer cannot take.
    """
    granularity = _granularity(block_size, block_pooling_type, sparsity_m_by_n)
    technique = schedules.technique(pruning_schedule, granularity)
    if pruning_policy is not None and not isinstance(pruning_policy, PruningPolicy):
        raise RecipeError(
            "prune_low_magnitude: pruning_policy",
            expected="a PruningPolicy, such as PruneForLatencyOnXNNPack()",
            received=pruning_policy,
        )
    options = checked_keywords("prune_low_magnitude", kwargs)

    def layer(given: Any, **options: Any) -> Any:
        if pruning_policy is not None and not pruning_policy.allow_pruning(given):
            return given
        return wrap(given, technique, prunable, what="prune_low_magnitude", **options)

    def model(given: keras.Model) -> keras.Model:
        if pruning_policy is None:
            return on_model(given, technique, prunable, layer)
        pruning_policy.ensure_model_supports_pruning(given)
        return on_model(
            given,
            lambda each: technique if pruning_policy.allow_pruning(each) else None,
            prunable,
            layer,
        )

    single = options if isinstance(to_prune, keras.layers.Layer) else {}
    return on_any(to_prune, "prune_low_magnitude", model, lambda given: layer(given, **single))


def checked_keywords(what: str, given: dict[str, Any]) -> dict[str, Any]:
    """Tfmot's further keywords, which are those of a layer.

    Raises:
        RecipeError: one that has no meaning here.
    """
    options = dict(given)
    if "batch_input_shape" in options:
        options["input_shape"] = tuple(options.pop("batch_input_shape"))[1:]
    for key in options:
        if key not in KEYWORDS:
            raise RecipeError(
                what,
                expected=f"further keywords among {', '.join(KEYWORDS)}",
                received=key,
                fix=f"{did_you_mean(key, KEYWORDS)}; others go to the layer's own constructor",
            )
    return options


def _granularity(size: Any, pooling: Any, m_by_n: Any) -> Granularity:
    pair = tuple(size) if isinstance(size, (list, tuple)) else size
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise RecipeError(
            "prune_low_magnitude: block_size", expected="(height, width)", received=size
        )
    if pooling not in ("AVG", "MAX"):
        raise RecipeError(
            "prune_low_magnitude: block_pooling_type", expected="'AVG' or 'MAX'", received=pooling
        )
    if m_by_n is None:
        if pair == (1, 1):
            return Unstructured()
        # tfmot counts along a Dense kernel's own axes, inputs first.
        return PerBlock((pair[1], pair[0]), "average" if pooling == "AVG" else "max")
    if pair != (1, 1):
        raise RecipeError(
            "prune_low_magnitude",
            expected="either block_size or sparsity_m_by_n",
            received=f"block_size={pair} and sparsity_m_by_n={m_by_n}",
        )
    numbers = tuple(m_by_n) if isinstance(m_by_n, (list, tuple)) else ()
    if len(numbers) != 2 or not all(type(each) is int for each in numbers):
        raise RecipeError(
            "prune_low_magnitude: sparsity_m_by_n",
            expected="(zeros, of so many), such as (2, 4)",
            received=m_by_n,
        )
    zeros, group = numbers
    if not 0 < zeros < group:
        raise RecipeError(
            "prune_low_magnitude: sparsity_m_by_n",
            expected="fewer zeros than the group has weights, and one at least",
            received=m_by_n,
        )
    return NOfM(group - zeros, group)


def prune_scope() -> Any:
    """A scope in which pruned models can be loaded, as a context manager.

    Loading them works without it, too, but for a `PruningSchedule` of your own: add its class to
    `custom_objects`.
    """
    return keras.saving.custom_object_scope(
        {"ConstantSparsity": ConstantSparsity, "PolynomialDecay": schedules.PolynomialDecay}
    )


def strip_pruning(model: keras.Model) -> keras.Model:
    """A plain Keras model with the zeros in its weights; the pruned one is left alone.

    Args:
        model: a Keras model; one that was not pruned is copied as it is.

    Raises:
        ModelError: a ValueError: it is no Keras 3 model.
    """
    return strip_any(model, "strip_pruning")
