"""What `litesmith inspect` tells of a model, as plain data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

    from litesmith.parametrize import Kernel
    from litesmith.technique import Technique

# Techniques that need a setting to be asked what they would take.
_PROBES: dict[str, dict[str, Any]] = {
    "cluster": {"clusters": 16},
    "prune": {"sparsity": 0.5},
    "prune 2:4": {"granularity": {"type": "n_of_m", "n": 2, "m": 4}},
}


def keras_model(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A Keras model's layers, and what each technique could do to each kernel.

    Args:
        path: a `.keras` or `.h5` file, or another source that `litesmith.models.load` takes.

    Returns:
        ``model``, ``kind``, ``name``, ``parameters``, ``weight_bytes``, ``file_bytes`` and
        ``layers``; each layer has ``path``, ``type``, ``output_shape``, ``parameters``,
        ``bytes``, ``share`` (of the weights' bytes, 0…1) and ``kernels``; each kernel
        ``variable``, ``shape``, ``kind``, ``parameters``, ``bytes``, ``share`` and ``techniques``:
        by name, ``can`` ("by default", "when asked" or "no") and the ``reason``.

    Raises:
        ModelError: the model cannot be loaded.
    """
    from litesmith import models
    from litesmith.parametrize import find_kernels, outermost_layers

    model = models.load(os.fspath(path), root=Path.cwd())
    total = sum(map(_bytes, model.weights))
    kernels = find_kernels(model)
    verdicts = _verdicts(kernels)
    layers = []
    for layer_path, layer in outermost_layers(model):
        size = sum(map(_bytes, layer.weights))
        layers.append(
            {
                "path": layer_path,
                "type": type(layer).__name__,
                "output_shape": _output_shape(layer),
                "parameters": layer.count_params() if layer.built else 0,
                "bytes": size,
                "share": size / total if total else 0.0,
                "kernels": [
                    {
                        "variable": kernel.variable.path,
                        "shape": list(kernel.shape),
                        "kind": kernel.kind,
                        "parameters": _size(kernel.variable),
                        "bytes": _bytes(kernel.variable),
                        "share": _bytes(kernel.variable) / total if total else 0.0,
                        "techniques": verdicts[index],
                    }
                    for index, kernel in enumerate(kernels)
                    if kernel.path == layer_path
                ],
            }
        )
    file = Path(path)
    return {
        "model": os.fspath(path),
        "kind": "keras",
        "name": model.name,
        "parameters": model.count_params(),
        "weight_bytes": total,
        "file_bytes": file.stat().st_size if file.is_file() else None,
        "layers": layers,
    }


def _verdicts(kernels: Sequence[Kernel]) -> list[dict[str, dict[str, str]]]:
    """For each kernel what each technique could do with it."""
    found: list[dict[str, dict[str, str]]] = [{} for _ in kernels]
    for name, technique in _techniques().items():
        plans = technique.plan(list(kernels))
        for verdict, kernel, plan in zip(found, kernels, plans, strict=True):
            if plan.reason:
                verdict[name] = {"can": "no", "reason": plan.reason}
            elif technique.selects(kernel):
                verdict[name] = {"can": "by default", "reason": ""}
            else:
                reason = f"{kernel.kind} kernels are taken where `where` matches them"
                verdict[name] = {"can": "when asked", "reason": reason}
    return found


def _techniques() -> dict[str, Technique]:
    """Every registered technique, with settings to ask it with."""
    from litesmith.errors import RecipeError
    from litesmith.technique import Technique

    found: dict[str, Technique] = {}
    for name in Technique.registered():
        labels = [label for label in _PROBES if label.split()[0] == name] or [name]
        for label in labels:
            try:
                found[label] = Technique.from_dict({"technique": name, **_PROBES.get(label, {})})
            except RecipeError:
                continue  # an extension's technique that cannot be asked without settings
    return found


def _size(variable: Any) -> int:
    size = 1
    for length in variable.shape:
        size *= int(length)
    return size


def _bytes(variable: Any) -> int:
    import numpy as np

    name = str(variable.dtype)
    width = 2 if name == "bfloat16" else np.dtype(name).itemsize
    return _size(variable) * width


def _output_shape(layer: keras.layers.Layer) -> Any:
    try:
        output = layer.output
    except (AttributeError, ValueError):
        return None  # a layer of a subclassed model, or one that was never called
    parts = output if isinstance(output, list | tuple) else [output]
    shapes = [list(part.shape) for part in parts if hasattr(part, "shape")]
    return shapes[0] if len(shapes) == 1 else shapes


def tflite(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A `.tflite`'s operators and stored tensors.

    Returns:
        ``model``, ``kind``, ``file_bytes``, ``weight_bytes``, ``parameters``, ``inputs``,
        ``outputs``, ``operators`` (by name, how many) and ``tensors``: the stored ones, biggest
        first, with ``name``, ``shape``, ``dtype``, ``bytes``, ``share`` (of the file, 0…1),
        ``parameters``, ``zeros``, ``unique`` and ``sparse``.

    Raises:
        ModelError: the file is no `.tflite`, a damaged one, or holds weights that are not finite.
    """
    import numpy as np

    from litesmith.export import flatbuffer
    from litesmith.export.finite import check_finite

    model = flatbuffer.read(path)
    check_finite(model, os.fspath(path))
    tensors = []
    for tensor in model.constants():
        values = tensor.data
        tensors.append(
            {
                "name": tensor.name,
                "shape": list(tensor.shape),
                "dtype": tensor.type.lower(),
                "bytes": tensor.stored,
                "share": tensor.stored / model.size,
                "parameters": tensor.size,
                "zeros": None if values is None else int(values.size - np.count_nonzero(values)),
                "unique": None if values is None else len(np.unique(values)),
                "sparse": tensor.sparse,
            }
        )
    main = model.subgraphs[0]
    return {
        "model": os.fspath(path),
        "kind": "tflite",
        "file_bytes": model.size,
        "weight_bytes": sum(tensor["bytes"] for tensor in tensors),
        "parameters": sum(tensor["parameters"] for tensor in tensors),
        "inputs": [_port(main.tensors[index]) for index in main.inputs],
        "outputs": [_port(main.tensors[index]) for index in main.outputs],
        "operators": dict(model.operator_counts()),
        "tensors": sorted(tensors, key=lambda tensor: -tensor["bytes"]),
    }


def _port(tensor: Any) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "shape": list(tensor.shape_signature or tensor.shape),
        "dtype": tensor.type.lower(),
    }
