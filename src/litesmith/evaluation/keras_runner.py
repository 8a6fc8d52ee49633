"""Runs a Keras model on data, on whatever backend Keras has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from litesmith.errors import DataError, EvaluationError, LitesmithError
from litesmith.evaluation.specs import TensorSpec, arrange, as_array, check_finite
from litesmith.export.interface import Interface, answer_names


class KerasRunner:
    """A Keras model behind the `Runner` protocol.

    Batches go through `predict_on_batch`, which compiles the model once for each shape; so a last
    batch that is shorter is filled up, rather than compiled for.

    Args:
        model: any built Keras model; compiled or not, it is left as it is.
        source: what to say the model came from; default its name.
        name: what to call it in errors and results; default its own name.
    """

    def __init__(self, model: keras.Model, *, source: str | None = None, name: str | None = None):
        self.model = model
        self.name = name or model.name
        self.source = source or model.name
        # A subclassed model has none: only it knows what it takes and gives.
        self._interface = Interface.of(model) if getattr(model, "inputs", None) else None
        self.inputs, self.outputs = _specs(model, self._interface)
        self.batch_size = 64
        self._filled = 0  # the largest batch so far: the shape the model is compiled for

    def __enter__(self) -> KerasRunner:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing to end: the model belongs to the caller."""

    def predict(self, inputs: Any) -> list[np.ndarray]:
        """Run a batch in inference mode.

        Args:
            inputs: one array `(batch, …)`, a dict by input name, or a list in the model's order.

        Returns:
            All outputs, each `(batch, …)`; a dict's sorted by key, as Keras flattens it.

        Raises:
            DataError: the data do not fit the model's inputs.
            EvaluationError: the model failed to run them.
        """
        fed, count = self._fed(inputs)
        if count == 0:
            raise DataError(
                "data", expected="at least one sample", received="none", fix="give some data"
            )
        missing = self._filled - count
        if missing > 0:
            fed = keras.tree.map_structure(
                lambda a: np.concatenate([a, np.repeat(a[-1:], missing, axis=0)]), fed
            )
        self._filled = max(self._filled, count)
        try:
            answer = self.model.predict_on_batch(fed)
        except LitesmithError:
            raise
        except Exception as error:
            text = " ".join(str(error).split())[:300] or type(error).__name__
            raise EvaluationError(f"{self.source} could not be run: {text}") from error
        outputs = [as_array(output) for output in keras.tree.flatten(answer)]
        outputs = [_plain(output)[:count] for output in outputs]
        if not self.outputs:
            self.outputs = tuple(
                TensorSpec(name, (None, *output.shape[1:]), str(output.dtype))
                for name, output in zip(answer_names(self.model, answer), outputs, strict=True)
            )
        return outputs

    def _fed(self, inputs: Any) -> tuple[Any, int]:
        if self._interface is None:
            arrays = [as_array(leaf) for leaf in keras.tree.flatten(inputs)]
            for array in arrays:
                check_finite(array, "data")
            packed = keras.tree.pack_sequence_as(inputs, arrays)
            return packed, len(arrays[0]) if arrays else 0
        arrays = arrange(inputs, self.inputs)
        return keras.tree.pack_sequence_as(self._interface.structure, arrays), len(arrays[0])


def _plain(output: np.ndarray) -> np.ndarray:
    # bfloat16 is a type numpy itself does not know; float16 would overflow in a metric's sums.
    if output.dtype.kind in "iub" or output.dtype in (np.float32, np.float64):
        return output
    return output.astype(np.float32)


def _specs(
    model: keras.Model, interface: Interface | None
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs under the names that the model's `.tflite` has for them."""
    if interface is None or interface.output_names is None:
        return (), ()
    inputs = zip(interface.input_names, interface.shapes, interface.dtypes, strict=True)
    outputs = zip(interface.output_names, model.outputs, strict=True)
    return (
        tuple(_spec(name, shape, dtype) for name, shape, dtype in inputs),
        tuple(_spec(name, tensor.shape, tensor.dtype) for name, tensor in outputs),
    )


def _spec(name: str, shape: Sequence[int | None], dtype: Any) -> TensorSpec:
    return TensorSpec(name, (None, *shape[1:]), keras.backend.standardize_dtype(dtype))
