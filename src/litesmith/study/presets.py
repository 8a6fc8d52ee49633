"""Studies for those who do not want to write a recipe.

    litesmith study --preset tour --model applications:MobileNetV2 --data images:photos

A preset stands for variants; `make` adds a model and data to them, and gives the study file that
does the same.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litesmith.errors import StudyError, did_you_mean

if TYPE_CHECKING:
    from litesmith.study.file import Study

_PRUNE_50, _PRUNE_80, _PRUNE_90 = (
    {"technique": "prune", "sparsity": sparsity} for sparsity in (0.5, 0.8, 0.9)
)
_CLUSTER_8, _CLUSTER_16 = ({"technique": "cluster", "clusters": count} for count in (8, 16))
_QUANTIZE = {"technique": "quantize"}


def _variant(name: str, quantize: str, *recipe: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name}
    if recipe:
        made["recipe"] = [dict(each) for each in recipe]
    return made if quantize == "float32" else {**made, "quantize": quantize}


_FLOAT16 = _variant("float16", "float16")
_DYNAMIC = _variant("dynamic", "dynamic_int8")
_INT8 = _variant("int8", "int8")
_QAT = _variant("qat", "int8", _QUANTIZE)

PRESETS: dict[str, tuple[dict[str, Any], ...]] = {
    # The smallest download: few values and many zeros, in eight bits.
    "size": (
        _INT8,
        _variant("pruned-80-int8", "int8", _PRUNE_80),
        _variant("clustered-16-int8", "int8", _CLUSTER_16),
        _variant("pruned-80-clustered-16-int8", "int8", _PRUNE_80, _CLUSTER_16),
        _variant("pruned-90-clustered-8-int8", "int8", _PRUNE_90, _CLUSTER_8),
    ),
    # The fastest on a device: what its arithmetic is, zeros or not.
    "speed": (_FLOAT16, _DYNAMIC, _INT8, _QAT),
    # A little of each, at next to no loss.
    "balanced": (
        _FLOAT16,
        _DYNAMIC,
        _INT8,
        _QAT,
        _variant("pruned-50-int8", "int8", _PRUNE_50),
        _variant("clustered-16-int8", "int8", _CLUSTER_16),
        _variant("pruned-50-clustered-16-int8", "int8", _PRUNE_50, _CLUSTER_16),
    ),
    # Every technique once, and every combination that makes sense.
    "tour": (
        _FLOAT16,
        _DYNAMIC,
        _INT8,
        _variant("weights-int4", "weight_int4"),
        _variant("pruned-80", "float32", _PRUNE_80),
        _variant("clustered-16", "float32", _CLUSTER_16),
        _QAT,
        _variant("pruned-80-clustered-16", "float32", _PRUNE_80, _CLUSTER_16),
        _variant("pruned-80-int8", "int8", _PRUNE_80),
        _variant("pruned-80-qat", "int8", _PRUNE_80, _QUANTIZE),
        _variant("clustered-16-int8", "int8", _CLUSTER_16),
        _variant("clustered-16-qat", "int8", _CLUSTER_16, _QUANTIZE),
        _variant("pruned-80-clustered-16-int8", "int8", _PRUNE_80, _CLUSTER_16),
        _variant("pruned-80-clustered-16-qat", "int8", _PRUNE_80, _CLUSTER_16, _QUANTIZE),
    ),
}
DEFAULT = "balanced"
# Networks of keras.applications are made for photographs: this is small, and trains in minutes.
_IMAGE_SIZE = (96, 96)


def check(name: Any) -> str:
    """A preset's name.

    Raises:
        StudyError: it is none.
    """
    if name not in PRESETS:
        raise StudyError(
            "preset",
            expected="the name of a preset",
            received=repr(name),
            fix=did_you_mean(str(name), PRESETS),
        )
    return str(name)


def variants(name: str) -> list[dict[str, Any]]:
    """The variants that a preset stands for, as a study file has them.

    Raises:
        StudyError: no such preset.
    """
    return [dict(each) for each in PRESETS[check(name)]]


def make(
    preset: str = DEFAULT,
    *,
    data: str,
    model: str,
    epochs: int | None = None,
    image_size: Sequence[int] | None = None,
    seed: int = 0,
) -> Study:
    """The study of a model on data by a preset; `study.text` is its file.

    Args:
        preset: "size", "speed", "balanced" or "tour".
        data: a data source.
        model: a model source. A network of `applications:` gets a head for the data's classes, on
            ImageNet's weights where they can be had, and the scaling it wants.
        epochs: of training the model, where it is not trained yet, and of each fine-tuning; None
            for the study's own policy.
        image_size: height and width for `images:` and `tfds:` data; None for the model file's own,
            or 96×96 for `applications:`.
        seed: of the study.

    Raises:
        StudyError: no such preset, or something in it is wrong.
        ModelError: the model's file cannot be read.
    """
    from litesmith.study.file import Study

    check(preset)
    kind = model.partition(":")[0]
    sized = data.partition(":")[0] in ("images", "tfds")
    arguments = ["--preset", preset, "--model", model, "--data", data]
    if epochs is not None:
        arguments += ["--epochs", str(epochs)]
    if image_size is None and sized:
        image_size = _IMAGE_SIZE if kind == "applications" else _size_of(model)
    elif image_size is not None:
        arguments += ["--image-size", "x".join(map(str, image_size))]
    about: dict[str, Any] = {"source": _absolute(model)}
    content: dict[str, Any] = {"seed": seed, "model": about, "data": {"source": _absolute(data)}}
    if sized and image_size is not None:
        content["data"]["image_size"] = [int(size) for size in image_size]
    if kind == "applications":
        about["arguments"] = {"transfer": True}
        # Features that have seen a million photographs bear less than random weights do.
        content["baseline"] = {"epochs": [8, 2], "learning_rate": [5e-4, 5e-5], "batch_size": 32}
        content["fine_tune"] = {"batch_size": 32}
    elif (model, data) == ("builtin:digits", "digits"):
        content |= _builtin_training()
    if epochs is not None:
        content.setdefault("fine_tune", {})["epochs"] = epochs
        if kind in ("applications", "builtin"):
            rates = content.get("baseline", {}).get("learning_rate", [1e-3])
            content.setdefault("baseline", {}).update(epochs=epochs, learning_rate=rates[0])
    content["variant"] = variants(preset)
    study = Study.parse(_text(content, arguments), f"--preset {preset}", Path.cwd())
    study._arguments = tuple(arguments)
    return study


def _builtin_training() -> dict[str, Any]:
    """How the built-in study trains."""
    from litesmith.study.file import Study

    built_in = Study.load("builtin:digits")
    parts = {"baseline": built_in.baseline, "fine_tune": built_in.fine_tune}
    return {
        name: part.model_dump(exclude_none=True) for name, part in parts.items() if part is not None
    }


def _size_of(model: str) -> tuple[int, int] | None:
    """Height and width that the model of a file takes; None for other sources."""
    if not model.endswith((".keras", ".h5", ".hdf5")):
        return None
    from litesmith import models

    shape = getattr(models.load(model), "input_shape", None)
    if isinstance(shape, tuple) and len(shape) == 4 and shape[1] and shape[2]:
        return int(shape[1]), int(shape[2])
    return None


def _absolute(source: str) -> str:
    """A source that names a file, from the root: the study file lies in another folder."""
    kind, separator, rest = source.partition(":")
    if separator and kind in ("images", "npz", "idx"):
        return f"{kind}:{os.path.abspath(os.path.expanduser(rest))}"
    if source.endswith((".keras", ".h5", ".hdf5")) or (separator and kind.endswith(".py")):
        path = os.path.abspath(os.path.expanduser(kind))
        return f"{path}:{rest}" if separator else path
    return source


def _text(content: dict[str, Any], arguments: Sequence[str]) -> str:
    import tomli_w

    command = shlex.join(["litesmith", "study", *arguments])
    return (
        f"# What `{command}` runs.\n"
        "# Change it as you like, and run it by\n#\n"
        "#     litesmith study study.toml -o DIR\n\n" + tomli_w.dumps(content)
    )
