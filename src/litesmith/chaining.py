"""Hanging the parametrizations of techniques onto the kernels of a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from litesmith.parametrize import (
    Kernel,
    Parametrization,
    Scale,
    attach,
    count_calls,
    factors,
    felt,
    find_kernels,
    find_scales,
    holder_of,
    is_parametrized,
    list_parameters,
    outermost_layers,
    spread,
)
from litesmith.technique import Plan, Technique

Step = Parametrization | tuple[Technique, Plan]


def earlier_chains(model: keras.Model) -> dict[int, list[Any]]:
    """The parametrizations a prepared model has already, by the kernel's place.

    Args:
        model: any model; one that was not prepared has none.
    """
    chains: dict[int, list[Any]] = {}
    for place, kernel in enumerate(find_kernels(model)):
        if is_parametrized(kernel.layer):
            for target, chain in holder_of(kernel.layer).chains():
                if target["index"] == kernel.index:
                    chains[place] = list(chain)
    return chains


def earlier_taps(model: keras.Model) -> dict[int, list[tuple[dict[str, Any], Any]]]:
    """The taps of a prepared model, each with its site, by the number of the outermost layer."""
    return {
        number: holder_of(layer).taps()
        for number, (_, layer) in enumerate(outermost_layers(model))
        if is_parametrized(layer) and holder_of(layer).has_taps
    }


def attach_chains(
    model: keras.Model,
    chains: dict[int, list[Step]],
    taps: dict[int, list[tuple[dict[str, Any], Any]]] | None = None,
) -> None:
    """Parametrize kernels of a model in place, and start what is new from the weights.

    Args:
        model: a plain copy of the model to prepare.
        chains: for each kernel, by its place in `find_kernels(model)`, what its weight passes
            through: parametrizations taken over from an earlier preparation, or a technique and
            its plan.
        taps: for each outermost layer, by its number, the sites and taps; those of an earlier
            preparation are made anew.
    """
    by_layer: dict[int, list[tuple[Kernel, list[Parametrization]]]] = {}
    starting = []
    for place, kernel in enumerate(find_kernels(model)):
        if place not in chains:
            continue
        links = []
        for number, step in enumerate(chains[place]):
            if isinstance(step, Parametrization):
                link = recreated(step)
            else:
                technique, plan = step
                name = f"{kernel.suffix.replace('/', '_')}_{number}_{technique.name}"
                link = technique.parametrization(
                    dataclasses.replace(plan, kernel=kernel), name, calls_per_step=1
                )
                starting.append(link)
            links.append(link)
        by_layer.setdefault(id(kernel.layer), []).append((kernel, links))
    every = [pair for found in by_layer.values() for pair in found]
    folded = [kernel for kernel, links in every if any(link.folded for link in links)]
    scales = find_scales(model, folded) if folded else {}
    for number, (_, layer) in enumerate(outermost_layers(model)):
        found = by_layer.get(id(layer), [])
        sites = [
            (site, recreated(tap) if tap.built else tap)
            for site, tap in (taps or {}).get(number, [])
        ]
        if found or sites:
            attach(
                layer,
                [(k.index, k.suffix, links, scales.get(id(k.variable))) for k, links in found],
                sites,
            )
    for kernel, links in every:
        start_links(kernel, links, scales.get(id(kernel.variable)), starting)
    if by_layer or taps:
        count_calls(model)
        list_parameters(model)


def start_links(
    kernel: Kernel,
    links: Sequence[Parametrization],
    scale: Scale | None,
    starting: Sequence[Parametrization],
) -> None:
    """Start parametrizations from the value of their weight, each from what those before make.

    Args:
        kernel: the kernel.
        links: all it passes through, in order.
        scale: what scales its channels, where one of them is about the folded kernel.
        starting: those to start.
    """
    weight = kernel.variable.value
    factor: Any = 1.0
    for number, link in enumerate(links):
        if link.folded and scale is not None:
            factor = spread(factors(scale.layer), kernel.shape, scale.axes)
            weight = weight * factor
            if link in starting:
                link.felt = felt(scale.layer, kernel.shape, scale.axes)
        if link in starting:
            link.follow(list(links[:number]))
            moved = link.start(keras.ops.convert_to_numpy(weight))
            if moved is not None:
                stored = keras.ops.where(weight == 0, kernel.variable.value, moved / factor)
                if link.felt is not None and scale is not None and scale.before:
                    _take_up(kernel, scale, link.felt, stored)
                kernel.variable.assign(stored)
                weight = keras.ops.where(weight == 0, weight, moved)
            link.felt = None
        if link.folded:
            scale = None
        weight = link.transform(keras.ops.copy(weight), training=False)


def _take_up(kernel: Kernel, scale: Scale, felt: np.ndarray, stored: Any) -> None:
    """Have the bias take up what constant inputs give otherwise with the new weights of theirs.

    A BatchNorm gives β for an input that is always its mean.
    """
    layer, beta = kernel.owners[-1][1], getattr(scale.layer, "beta", None)
    bias = getattr(layer, "bias", None)
    if beta is None or bias is None or not isinstance(layer, keras.layers.Dense):
        return
    lost = np.where(felt, 0.0, kernel.value() - keras.ops.convert_to_numpy(stored))
    bias.assign_add(lost.T @ keras.ops.convert_to_numpy(beta))


def recreated(link: Parametrization) -> Parametrization:
    """The same parametrization with the same state, in variables of its own."""
    new = type(link).from_config(link.get_config())
    new.build()
    new.built = True
    for source, target in zip(link.variables, new.variables, strict=True):
        target.assign(keras.ops.copy(source.value))
    return new
