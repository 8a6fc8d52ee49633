"""Whether a model's configuration asks for far more weights than its file holds.

One changed digit in a configuration (`units`, an input's shape) and Keras would first make
gigabytes of weights, and only then see that the stored ones do not fit. Under a stateless scope it
builds the model without making any weight; what they would take is then a matter of counting. For
MobileNetV2 that is a quarter of the time that loading takes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from litesmith.errors import ModelError
from litesmith.parametrize import without_weights

# Weights above those stored that do not matter: states that some layers do not save.
_SPARE = 1_000_000
_NO_SIZES = ("seed", "shared_object_id")


def check_room(
    path: Path, config: str, stored: int, custom_objects: Mapping[str, Any] | None
) -> None:
    """Refuse a model whose weights could not come from its file.

    Args:
        path: the file, for the error.
        config: its configuration, JSON.
        stored: numbers in all arrays the file holds.
        custom_objects: to read it with; given for `.h5`, None for `.keras`.

    Raises:
        ModelError: the configuration asks for more than twice what is stored.
    """
    try:
        with without_weights():
            if custom_objects is None:
                model = keras.saving.deserialize_keras_object(json.loads(config), safe_mode=True)
            else:
                model = keras.models.model_from_json(config, custom_objects=dict(custom_objects))
        wanted = sum(math.prod(map(int, weight.shape)) for weight in model.weights)
    except Exception:  # noqa: BLE001  Keras will say why when it loads the file
        # A layer that no stateless scope takes, or a wrong configuration: then no single number
        # may ask for more.
        wanted = _largest(json.loads(config))
    if wanted > 2 * stored + _SPARE:
        raise ModelError(
            str(path),
            expected=f"the weights of its configuration, {wanted:,} numbers or more",
            received=f"a file that holds {stored:,}",
            fix="save or copy it again",
        )


def _largest(config: Any) -> int:
    """The largest whole number of a configuration that may be a size."""
    largest, pending = 0, [config]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            pending.extend(value for key, value in node.items() if key not in _NO_SIZES)
        elif isinstance(node, list):
            pending.extend(node)
        elif isinstance(node, int):
            largest = max(largest, node)
    return largest
