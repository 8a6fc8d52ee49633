"""PyTorch's own checkpoints of a prepared model."""

import keras
import numpy as np
import pytest
from keras import layers

import litesmith as ls


@pytest.mark.every_backend
@pytest.mark.skipif(keras.backend.backend() != "torch", reason="PyTorch's own checkpoints")
@pytest.mark.parametrize("loaded", [False, True])
def test_a_state_dict_holds_masks_and_counts(loaded, tmp_path):
    def prepared():
        inputs = layers.Input((6,))
        hidden = layers.Dense(8, name="hidden")(inputs)
        model = keras.Model(inputs, layers.Dense(2, name="answer")(hidden))
        recipe = ls.Recipe(ls.Prune(sparsity=0.5), ls.Quantize(weights=4, activations=None))
        found = ls.prepare(model, recipe, steps=20)
        if not loaded:
            return found
        found.save(tmp_path / "prepared.keras")
        return keras.saving.load_model(tmp_path / "prepared.keras")

    trained, other = prepared(), prepared()
    x = np.random.default_rng(0).random((8, 6), np.float32)
    for _ in range(15):
        trained(x, training=True)
    trained.layers[1].kernel.assign(trained.layers[1].kernel * -2)
    trained(x, training=True)
    other(x, training=True)
    other.load_state_dict(trained.state_dict())
    to_numpy = keras.ops.convert_to_numpy
    for one, two in zip(trained.variables, other.variables, strict=True):
        assert np.array_equal(to_numpy(one), to_numpy(two)), one.path
    assert np.array_equal(to_numpy(trained(x)), to_numpy(other(x)))
    assert {id(each.value) for each in other.variables} == {id(p) for p in other.parameters()}
