"""The child in which the contract loads what was saved, and trains on, or on two devices."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import keras
import numpy as np

from litesmith.children import serve
from litesmith.recipe import Recipe, prepare
from litesmith.testing.contract import compile_for_test, config_of, fit_for_test
from litesmith.testing.kinds import KINDS, SAMPLES

_recipe: list[Recipe] = []


def _start(fields: dict[str, Any], arrays: list[np.ndarray]) -> tuple[dict, list]:
    for module in fields["modules"]:
        importlib.import_module(module)
    _recipe[:] = [Recipe.from_json(fields["recipe"])]
    return {}, []


def _load(fields: dict[str, Any], arrays: list[np.ndarray]) -> tuple[dict, list]:
    path, kind = fields["path"], KINDS[fields["kind"]]
    if path.endswith(".weights.h5"):
        model = prepare(kind.make(), _recipe[0])
        model.load_weights(path)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = keras.saving.load_model(path)
    config = config_of(model) if kind.whole else ""
    if not fields["train"]:
        outputs = model.predict(kind.data()[0], batch_size=SAMPLES, verbose=0)
        return {"config": config}, [outputs, *model.get_weights()]
    if not path.endswith(".keras"):  # the other formats lose the optimizer's state
        compile_for_test(model, "sgd")
    fit_for_test(model, kind, 1)
    return {"config": config}, model.get_weights()


def _check_way(fields: dict[str, Any], arrays: list[np.ndarray]) -> tuple[dict, list]:
    from litesmith.testing.ways import check_way

    problems = []
    for kind in fields["kinds"]:
        problems += check_way(_recipe[0], fields["way"], kind)
    return {"problems": problems}, []


if __name__ == "__main__":
    serve({"start": _start, "load": _load, "check_way": _check_way})
