"""What lies inside: operators of a graph, attention, LayerNorm, recurrent cells, embeddings."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import litesmith as ls
from litesmith.parametrize import outermost_layers
from litesmith.quantization import fidelity
from tests.quantization import small

pytestmark = pytest.mark.every_backend


def operators():
    keras.utils.set_random_seed(1)
    inputs = layers.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, activation="relu", name="convolution")(inputs)
    x = 1.0 - x[:, 1:-1] * 2.0
    x = ops.concatenate([x, ops.maximum(x, 0.1)], axis=-1)
    x = ops.mean(x, axis=(1, 2))
    return keras.Model(inputs, layers.Dense(4, activation="softmax", name="head")(x))


def attention():
    keras.utils.set_random_seed(1)
    inputs = layers.Input((6, 8))
    x = layers.LayerNormalization(name="norm")(inputs)
    x = layers.Add()([layers.MultiHeadAttention(2, 4, name="attention")(x, x), inputs])
    y = layers.Dense(16, activation="gelu", name="up")(x)
    x = layers.Add()([x, layers.Dense(8, name="down")(y)])
    x = layers.GlobalAveragePooling1D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax", name="head")(x))


def recurrent():
    keras.utils.set_random_seed(1)
    inputs = layers.Input((3, 6))
    x = layers.LSTM(6, return_sequences=True, name="lstm")(inputs)
    x = layers.Bidirectional(layers.GRU(4, return_sequences=True), name="both")(x)
    x = layers.SimpleRNN(8, name="plain")(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax", name="head")(x))


@pytest.mark.parametrize(
    "make, least",
    [(operators, 36.0), (attention, 30.0), (recurrent, 40.0)],
    ids=["operators", "attention", "recurrent"],
)
def test_the_file_is_integer_only_and_does_what_training_simulated(tmp_path, make, least):
    prepared, x, _ = small.trained(ls.Quantize(), make)
    assert not any("stay float" in note for note in prepared.report.notes)
    artifact = ls.export(prepared, tmp_path / "model.tflite", quantize="int8")
    # litert-quantizer has no REVERSE_V2, by which a backward layer takes its input.
    assert set(artifact.manifest.float_operators) <= {"REVERSE_V2"}
    assert not any("computed in float" in note for note in artifact.manifest.notes)
    found = fidelity(prepared, x, artifact=artifact)
    assert found.agreement >= 0.95 and found.last.layer == "head"
    assert found.last.signal_to_noise >= least, str(found)


def test_operators_are_layers_while_a_model_is_prepared(tmp_path):
    prepared, x, _ = small.trained(ls.Quantize(), operators, epochs=1)
    names = [path for path, _ in outermost_layers(prepared)]
    assert {"get_item", "multiply", "subtract"} <= {name.rstrip("_0123456789") for name in names}
    prepared.save(tmp_path / "prepared.keras")
    loaded = keras.saving.load_model(tmp_path / "prepared.keras")
    assert np.array_equal(loaded.predict(x, verbose=0), prepared.predict(x, verbose=0))
    stripped = ls.strip(loaded)
    assert [type(layer) for layer in stripped.layers] == [
        type(layer) for layer in operators().layers
    ]
    assert "Operator" not in stripped.to_json() and "GetItem" in stripped.to_json()
    # Also in a second stage, where the first had no need of it.
    pruned = ls.prepare(operators(), ls.Prune(sparsity=0.5))
    assert len(pruned.layers) == len(stripped.layers)
    both = ls.prepare(pruned, ls.Quantize(), calibration=x)
    assert [path for path, _ in outermost_layers(both)] != [p for p, _ in outermost_layers(pruned)]
    assert np.isfinite(both.predict(x, verbose=0)).all()


def test_a_short_recurrent_layer_is_unrolled_and_a_long_one_is_left():
    prepared = ls.prepare(recurrent(), ls.Quantize())
    assert prepared.get_layer("lstm").unroll and ls.strip(prepared).get_layer("lstm").unroll
    assert prepared.get_layer("both").forward_layer.unroll
    assert not recurrent().get_layer("lstm").unroll
    inputs = layers.Input((100, 6))
    model = keras.Model(inputs, layers.Dense(4)(layers.LSTM(8, name="lstm")(inputs)))
    assert not ls.prepare(model, ls.Quantize()).get_layer("lstm").unroll
    weights = ls.prepare(recurrent(), ls.Quantize(activations=None))
    assert not weights.get_layer("lstm").unroll


def test_what_is_looked_up_has_the_range_of_its_table(tmp_path):
    def make():
        keras.utils.set_random_seed(1)
        inputs = layers.Input((5,), dtype="int32")
        x = layers.Embedding(12, 8, name="table")(inputs)
        x = layers.GlobalAveragePooling1D(name="pool")(x)
        return keras.Model(inputs, layers.Dense(4, activation="softmax", name="head")(x))

    random = np.random.default_rng(3)
    y = random.integers(0, 4, 96)
    x = (random.integers(0, 3, (96, 5)) + 3 * y[:, None]).astype("int32")
    model = small.train(make(), x, y)
    prepared = small.train(ls.prepare(model, ls.Quantize()), x, y)
    artifact = ls.export(prepared, tmp_path / "model.tflite", quantize="int8_float_io")
    assert artifact.manifest.operators["GATHER"] == 1
    assert "GATHER" not in artifact.manifest.float_operators
    found = fidelity(prepared, x, artifact=artifact)
    assert found.agreement == 1.0 and found.last.within >= 0.99
    (table,) = [each for each in found.tensors if each.layer == "table"]
    assert table.equal >= 0.999
