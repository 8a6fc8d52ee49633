"""Some samples for techniques that want to see data before any training."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from litesmith.errors import DataError

_SAMPLES, _BATCH = 256, 32


def collected(model: keras.Model, data: Any, samples: int = _SAMPLES) -> list[Any]:
    """Some samples, in batches of 32 where they do not come in batches.

    Args:
        model: what they are for.
        data: inputs, with or without labels: an array, a dict or list of arrays, a `tf.data`
            dataset, a `PyDataset`, a torch loader, a generator of batches.
        samples: how many to take at most.

    Returns:
        The inputs of each batch.

    Raises:
        DataError: there are none, they hold NaN or infinity, or the model does not take them.
    """
    from litesmith.data import batches

    found = [inputs for inputs, _ in batches(data, _BATCH, limit=samples)]
    if not found:
        raise DataError(
            "calibration",
            expected="some samples",
            received="none",
            fix="give some of the training data",
        )
    for value in keras.tree.flatten(found):
        if np.asarray(value).dtype.kind == "f" and not np.isfinite(value).all():
            raise DataError(
                "calibration",
                expected="finite numbers",
                received="NaN or infinity",
                fix="clean the data, as for training",
            )
    try:
        model(keras.tree.map_structure(lambda value: value[:1], found[0]), training=False)
    except Exception as error:  # noqa: BLE001  whatever Keras says of a wrong shape
        shapes = keras.tree.map_structure(lambda value: tuple(np.shape(value)[1:]), found[0])
        raise DataError(
            "calibration",
            expected=f"samples that model {model.name!r} takes "
            f"({getattr(model, 'input_shape', 'of its input shape')})",
            received=f"samples of shape {shapes}",
            fix="give data as the model was trained on",
        ) from error
    return found
