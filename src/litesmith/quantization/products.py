"""How a product of the file, its kernel and its bias, comes of a layer's."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from litesmith.parametrize import Kernel, is_cell, norm_factors

to_numpy = keras.ops.convert_to_numpy


def is_first_step(kernel: Kernel) -> bool:
    """Whether it is the depthwise kernel of a separable convolution, which has no bias."""
    owner = kernel.owners[-1][1]
    return kernel.variable.name == "depthwise_kernel" and hasattr(owner, "pointwise_kernel")


def row_of_bias(kernel: Kernel) -> int | None:
    """Which row of its layer's bias is added behind a kernel; None where there are no rows."""
    owner = kernel.owners[-1][1]
    if not is_cell(owner) or owner.bias is None or len(owner.bias.shape) < 2:
        return None
    return int(kernel.variable.name == "recurrent_kernel")


def gain_of(float_model: Any, kernel: Kernel, norm: Any, product: Any) -> float | None:
    """What a kernel is multiplied by in the file, beside its BatchNorm: a Rescaling before it.

    Args:
        float_model: the conversion.
        kernel: of the model that was converted.
        norm: the BatchNorm that is folded into it, or None.
        product: the operator (`export.placement.Product`).

    Returns:
        1 where it is as the layers have it; None where channels differ.
    """
    from litesmith.export import codebooks, kernels

    graph = float_model.view.subgraphs[0]
    data = next((t.data for t in graph.tensors if t.name == product.weight), None)
    axis = codebooks.CHANNELS.get(product.operator)
    value = np.asarray(kernel.value(), np.float32)
    if data is None or axis is None or data.size != value.size:
        return 1.0
    found = kernels.channel_scales(value, np.ones(()), data, axis)
    if found is None:
        return 1.0
    if norm is not None:
        factor = np.abs(to_numpy(norm_factors(norm)[0]).astype(np.float64).ravel())
        if factor.size != found.size:
            return 1.0
        found = found / np.where(factor > 0, factor, 1.0)
    gain = float(np.median(found))
    if abs(gain - 1.0) >= 1e-4 and norm is None and not product.bias:
        return None  # before it, or behind it: nothing tells
    if np.isclose(found, gain, rtol=1e-3).mean() < 0.5:
        return None
    return 1.0 if abs(gain - 1.0) < 1e-4 else gain


def added_to(float_model: Any, kernel: Kernel, norm: Any, product: Any) -> float | None:
    """What the file's bias is larger by than what the layers make of theirs: `x + 3` behind.

    Args:
        float_model: the conversion.
        kernel: of the model that was converted.
        norm: the BatchNorm that is folded into it, or None.
        product: the operator (`export.placement.Product`).

    Returns:
        None where it is another one altogether.
    """
    owner: Any = kernel.owners[-1][1]
    own = None if is_first_step(kernel) else getattr(owner, "bias", None)
    if is_cell(owner) and not product.bias:  # added by an operator of its own
        own = None
    bias = np.zeros(()) if own is None else to_numpy(own).astype(np.float64)
    if (row := row_of_bias(kernel)) is not None and own is not None:
        bias = bias[row]
    if norm is not None:
        factor, shift = (to_numpy(each).astype(np.float64) for each in norm_factors(norm))
        bias = shift + bias.ravel() * factor
    graph = float_model.view.subgraphs[0]
    stored = next((t.data for t in graph.tensors if product.bias and t.name == product.bias), 0)
    stored = np.ravel(np.asarray(0.0 if stored is None else stored, np.float64))
    if stored.size not in (1, bias.size) and bias.size != 1:
        return None
    size = max(float(np.abs(bias).max()), float(np.abs(stored).max()), 1e-3)
    off = stored - bias.ravel()
    if (np.abs(off) <= 1e-4 * size).all():
        return 0.0
    added = float(off.mean())
    uniform = product.bias and own is not None and (np.abs(off - added) <= 1e-5 * size).all()
    return added if uniform else None
