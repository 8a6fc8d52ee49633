from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import ClassVar

import keras
import numpy as np
import pytest
from keras import layers

from litesmith import models
from litesmith.errors import ExportError, ModelError
from litesmith.export import convert, flatbuffer, float_model

from . import zoo

# Only what differs where the converter is another process, and Keras' numbers another backend's.
every_backend = pytest.mark.every_backend


@every_backend
@pytest.mark.parametrize("kind", zoo.KINDS)
def test_agrees_with_keras(converted, kind):
    model, float_model, inputs = converted(kind)
    flat = keras.tree.flatten(inputs)
    if float_model.inputs[0].shape[0] == 1:
        assert float_model.notes == (
            "the batch is fixed to 1: the converter could not keep it open",
        )
        flat = [array[:1] for array in flat]
    else:
        assert all(spec.shape[0] == -1 for spec in float_model.inputs + float_model.outputs)
    expected = [value[: len(flat[0])] for value in zoo.outputs(model, inputs)]
    got = zoo.run(float_model.content, flat)
    tolerance = 3e-3 if kind == "mixed_precision" else 2e-6
    for spec, value in zip(float_model.outputs, expected, strict=True):
        np.testing.assert_allclose(got[spec.name], value, atol=tolerance * np.abs(value).max())


@every_backend
@pytest.mark.parametrize("kind", list(zoo.KINDS))
def test_every_kernel_is_found(converted, kind):
    model, float_model, _ = converted(kind)
    assert float_model.unmapped == ()
    wanted = {
        weight.path
        for weight in model.weights
        if len(weight.shape) > 1 and not weight.name.endswith("bias")
    }
    assert {kernel.variable for kernel in float_model.kernels} == wanted


@every_backend
def test_names_are_keras_names(converted):
    _, float_model, _ = converted("lists")
    assert [spec.name for spec in float_model.inputs] == ["b;2", "first in"]
    assert [spec.name for spec in float_model.outputs] == ["p é", "q"]
    _, float_model, _ = converted("dicts")
    assert [spec.name for spec in float_model.inputs] == ["ab", "za"]
    assert [spec.name for spec in float_model.outputs] == ["x", "y"]
    _, float_model, _ = converted("sequential")
    assert [spec.name for spec in float_model.inputs] == ["input_layer"]
    assert [spec.name for spec in float_model.outputs] == ["logits"]


@pytest.mark.parametrize("kind", ["sequential", "recurrent", "mixed_precision"])
def test_the_model_is_left_alone(kind):
    model = zoo.make(kind)
    model.compile("sgd", "mse")
    inputs = zoo.samples(model)
    before = (
        [weight.path for weight in model.weights],
        [layer.name for layer in model.layers],
        [layer.dtype_policy.name for layer in model.layers],
        [getattr(layer, "unroll", None) for layer in model.layers],
        zoo.outputs(model, inputs),
    )
    convert(model)
    after = (
        [weight.path for weight in model.weights],
        [layer.name for layer in model.layers],
        [layer.dtype_policy.name for layer in model.layers],
        [getattr(layer, "unroll", None) for layer in model.layers],
    )
    assert after == before[:4]
    np.testing.assert_array_equal(zoo.outputs(model, inputs)[0], before[4][0])
    assert model.compiled and model.optimizer is not None


def test_conversion_is_silent(capfd):
    model = zoo.make("loop")
    capfd.readouterr()
    convert(model)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


@every_backend
def test_a_missing_operator_is_named():
    model = keras.Sequential([layers.Input((4, 4)), layers.Dense(4), _Cholesky()])
    with pytest.raises(ExportError, match="LiteRT has no operator for Cholesky; pass allow_select"):
        convert(model)
    float_model = convert(model, allow_select_tf_ops=True)
    assert float_model.select_tf_ops
    assert "FlexCholesky" in flatbuffer.read(float_model.content).operator_counts()


class _Cholesky(layers.Layer):
    def call(self, x):
        square = keras.ops.matmul(x, keras.ops.transpose(x, (0, 2, 1)))
        return keras.ops.cholesky(square + keras.ops.eye(4))


def test_unbuilt_models_are_refused():
    with pytest.raises(ModelError, match="expected a model that was built.*call it once"):
        convert(keras.Sequential([layers.Dense(2)]))
    with pytest.raises(ModelError, match="expected a model that was built"):
        convert(zoo.Subclassed())


def test_nan_weights_are_refused():
    model = keras.Sequential([layers.Input((2,)), layers.Dense(2, name="broken")])
    model.layers[-1].kernel.assign([[np.nan, 1], [1, 1]])
    with pytest.raises(ModelError, match="broken/kernel: expected finite numbers"):
        convert(model)


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match="expected a Keras model, or the path"):
        convert(3)
    with pytest.raises(ModelError, match="no such file"):
        convert(tmp_path / "nothing.keras")
    (tmp_path / "model.onnx").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"received a \.onnx file"):
        convert(tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="without saved_model.pb"):
        convert(tmp_path)


def test_a_float_conversion_passes_through(converted, tmp_path):
    _, float_model, inputs = converted("nested")
    assert convert(float_model) is float_model
    path = tmp_path / "model.tflite"
    path.write_bytes(float_model.content)
    again = convert(path)
    assert again.content == float_model.content
    assert {kernel.tensor for kernel in again.kernels} == {k.tensor for k in float_model.kernels}


def test_a_keras_file_is_loaded(tmp_path):
    model = keras.Sequential([layers.Input((3,)), layers.Dense(2)])
    model.save(tmp_path / "model.keras")
    float_model = convert(tmp_path / "model.keras")
    inputs = np.ones((2, 3), "float32")
    got = zoo.run(float_model.content, [inputs])
    np.testing.assert_allclose(*got.values(), zoo.outputs(model, inputs)[0], atol=1e-6)


def test_a_prepared_model_is_stripped_first():
    import litesmith

    model = keras.Sequential([layers.Input((8,)), layers.Dense(8, name="hidden")])
    recipe = litesmith.Recipe(litesmith.Prune(sparsity=0.75))
    float_model = convert(litesmith.prepare(model, recipe))
    read = flatbuffer.read(float_model.content)
    (kernel,) = float_model.kernels
    (tensor,) = [t for t in read.subgraphs[0].tensors if t.name == kernel.tensor]
    assert (tensor.data == 0).sum() == 48
    assert float_model.origin.recipe == recipe


@every_backend
def test_a_local_class_cannot_cross_processes():
    if keras.backend.backend() == "tensorflow":
        pytest.skip("converted in this process")

    class Local(layers.Layer):
        def call(self, x):
            return x + 1

    model = keras.Sequential([layers.Input((2,)), layers.Dense(2), Local()])
    with pytest.raises(ExportError, match="cannot be imported by the converter's process; move"):
        convert(model)


class NoConfig(keras.Model):
    """A subclassed model whose arguments Keras cannot write down."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, x):
        return self.layer(x)


@every_backend
def test_a_class_without_get_config():
    model = NoConfig(layers.Dense(2))
    model(np.zeros((1, 3), "float32"))
    if keras.backend.backend() == "tensorflow":
        assert convert(model).kernels
    else:
        with pytest.raises(ExportError, match="get_config"):
            convert(model)


SCRIPT = """
import sys
import keras, numpy as np
from keras import layers
from litesmith.export import convert

def steep(x):
    return keras.ops.tanh(3 * x)

class Mine(layers.Layer):
    def call(self, x):
        return x * 2

if __name__ == "__main__":
    model = keras.Sequential([layers.Input((3,)), layers.Dense(2, activation=steep), Mine()])
    print(len(convert(model).kernels))
"""


@every_backend
def test_classes_of_the_main_script(tmp_path):
    if keras.backend.backend() != "jax":
        pytest.skip("slow, and the same on torch; on TensorFlow converted in this process")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    result = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=100
    )
    assert result.stdout.strip() == "1", result.stderr[-2000:]


@every_backend
def test_a_script_without_a_main_guard(tmp_path):
    if keras.backend.backend() != "jax":
        pytest.skip("slow, and the same on torch; on TensorFlow converted in this process")
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT.replace('if __name__ == "__main__":', "if True:")))
    result = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=100
    )
    assert result.returncode == 1
    assert "put what it runs under `if __name__ == '__main__':`" in result.stderr


USER_CODE = """
import keras
from {neighbour} import FACTOR

class Times(keras.layers.Layer):
    def call(self, x):
        return x * FACTOR

def make():
    return keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2), Times()])
"""


@every_backend
@pytest.mark.parametrize("source", ["sub/net.py:make", "user_net:make"])
def test_classes_of_user_code(tmp_path, source):
    if keras.backend.backend() == "tensorflow":
        pytest.skip("converted in this process")
    convert(keras.Sequential([layers.Input((3,)), layers.Dense(2)]))  # its process is running
    neighbour = f"neighbour_{len(source)}"
    (tmp_path / f"{neighbour}.py").write_text("FACTOR = 3")
    (tmp_path / "sub").mkdir()
    for file in (tmp_path / "sub" / "net.py", tmp_path / "user_net.py"):
        file.write_text(USER_CODE.format(neighbour=neighbour))
    model = models.load(source, root=tmp_path)
    inputs = np.ones((2, 3), "float32")
    got = zoo.run(convert(model).content, [inputs])
    np.testing.assert_allclose(*got.values(), zoo.outputs(model, inputs)[0], atol=1e-6)


@every_backend
def test_a_subclassed_model_is_noted_to_take_floats(converted):
    (note,) = converted("subclassed")[1].notes
    assert note.startswith("inputs of a subclassed model are taken as float32")
    assert converted("nested")[1].notes == ()


class _FakeChild:
    """The converter's process, which dies after each call."""

    made: ClassVar[list] = []

    def __init__(self, module, *, environment, timeout):
        assert timeout == 1800
        self.alive, self.closed = True, False
        self.made.append(self)

    def call(self, method, **fields):
        assert float_model._lock.locked()
        self.alive = False
        return {"notes": []}, [np.frombuffer(b"done", np.uint8)]

    def close(self):
        self.closed = True


def test_a_dead_converter_is_closed_and_replaced(monkeypatch):
    monkeypatch.setattr(float_model, "Child", _FakeChild)
    monkeypatch.setattr(float_model, "_running", None)
    for _ in range(2):
        assert float_model._call("saved_model", path="x") == (b"done", ())
    assert [child.closed for child in _FakeChild.made] == [True, False]


def test_a_converter_that_has_grown_is_closed(monkeypatch):
    class Kept(_FakeChild):
        made: ClassVar[list] = []

        def call(self, method, **fields):
            return {"notes": []}, [np.zeros(fields["size"], np.uint8)]

    monkeypatch.setattr(float_model, "Child", Kept)
    monkeypatch.setattr(float_model, "_running", None)
    monkeypatch.setattr(float_model, "_LARGE", 100)
    for size in (100, 101, 5):
        assert len(float_model._call("saved_model", size=size)[0]) == size
    assert [child.closed for child in Kept.made] == [True, False]
