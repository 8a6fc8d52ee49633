"""How closely a variant's `.tflite` does what its training simulated, for the report."""

from __future__ import annotations

import math
from typing import Any

import keras

from litesmith.comparison.results import FidelityResult, FidelityTensor
from litesmith.quantization import Fidelity, fidelity

SAMPLES, WORST = 256, 5


def measure(prepared: keras.Model, float_model: Any, artifact: Any, data: Any) -> FidelityResult:
    """Compare tensor by tensor.

    Args:
        prepared: the model that was trained with `Quantize`.
        float_model: the conversion of the stripped one.
        artifact: the integer file made of it.
        data: test samples.
    """
    found = fidelity(prepared, data, artifact=artifact, float_model=float_model, samples=SAMPLES)
    return summary(found)


def summary(found: Fidelity) -> FidelityResult:
    """What the report shows of a comparison."""
    worst = sorted(found.tensors, key=lambda each: each.signal_to_noise)
    parted = [each for each in worst if not math.isinf(each.signal_to_noise)]
    return FidelityResult(
        samples=found.samples,
        agreement=found.agreement,
        tensors=len(found.tensors),
        logits=None if found.last is None else _row(found.last),
        first=None if found.first is None else found.first.layer,
        worst=[_row(each) for each in parted[:WORST]],
    )


def _row(tensor: Any) -> FidelityTensor:
    ratio = tensor.signal_to_noise
    return FidelityTensor(
        layer=tensor.layer,
        kind=tensor.kind,
        signal_to_noise=None if math.isinf(ratio) else round(ratio, 2),
        equal=tensor.equal,
        within=tensor.within,
        largest=tensor.largest,
    )
