import keras
import numpy as np
import pytest

from litesmith import data, models
from litesmith.errors import ModelError


@pytest.mark.every_backend
def test_the_reference_network_is_the_one_of_the_design():
    model = models.load("builtin:reference")
    assert model.count_params() == 84_314
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("Conv2D") == 6 and kinds.count("DepthwiseConv2D") == 1
    assert kinds.count("BatchNormalization") == 7 and kinds.count("Add") == 2
    assert not any(layer.use_bias for layer in model.layers if "Conv" in type(layer).__name__)
    assert model.predict(np.zeros((2, 28, 28, 1)), verbose=0).shape == (2, 10)
    shapes = [tuple(layer.output.shape[1:]) for layer in model.layers if "Add" in str(type(layer))]
    assert shapes == [(14, 14, 32), (7, 7, 64)]


def test_the_digits_network_learns_digits():
    digits = data.load("digits")
    keras.utils.set_random_seed(0)
    model = models.load("builtin:digits")
    assert model.count_params() == 14_618
    assert any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers)
    for learning_rate, epochs in ((3e-3, 8), (3e-4, 2)):
        optimizer = keras.optimizers.Adam(learning_rate)
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(digits.train.keras(32, shuffle=True), epochs=epochs, verbose=0)
    assert model.evaluate(digits.test.keras(256), verbose=0)[1] >= 0.97


def test_the_data_fills_in_shape_and_classes():
    model = models.load("builtin:digits", input_shape=[12, 12, 3], classes=4)
    assert model.input_shape == (None, 12, 12, 3) and model.output_shape == (None, 4)
    model = models.load("builtin:digits", {"classes": 3, "input_shape": [9, 9, 1]}, classes=4)
    assert model.input_shape == (None, 9, 9, 1) and model.output_shape == (None, 3)


def test_a_later_room_adds_its_own():
    @models.builtin("tiny")
    def tiny(units: int = 2) -> keras.Model:
        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])

    try:
        assert models.load("builtin:tiny", {"units": 5}, classes=9).output_shape == (None, 5)
    finally:
        del models.BUILTINS["tiny"]


def test_applications():
    model = models.load(
        "applications:MobileNet",
        {"alpha": 0.25, "classifier_activation": None},
        input_shape=(32, 32, 3),
        classes=7,
    )
    assert model.input_shape == (None, 32, 32, 3) and model.output_shape == (None, 7)
    model = models.load(
        "applications:MobileNet", {"include_top": False, "alpha": 0.25}, input_shape=(32, 32, 3)
    )
    assert len(model.output_shape) == 4


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        ("builtin:digit", {}, "a built-in model, received digit; did you mean 'digits'?"),
        ("builtin:digits", {"clases": 3}, "argument 'clases': .* did you mean 'classes'?"),
        ("builtin:digits", {"classes": -3}, "expected arguments it can be built with"),
        ("applications:MobileNetV4", {}, "did you mean 'MobileNetV"),
        ("applications:MobileNet", {"alpa": 1}, "did you mean 'alpha'?"),
        (
            "applications:VGG16",
            {"input_shape": [3, 3, 3]},
            "expected arguments it can be built with",
        ),
        ("aplications:VGG16", {}, "did you mean 'applications'?"),
        ("surely_absent:f", {}, "no module named 'surely_absent'"),
        ("digits", {}, "received no such file; did you mean 'builtin:digits'?"),
        ("a.keras", {"alpha": 1}, "model arguments: expected none: .* received alpha"),
    ],
)
def test_unknown_models_name_what_is_near(source, arguments, message):
    with pytest.raises(ModelError, match=message) as error:
        models.load(source, arguments)
    assert "\n" not in str(error.value)


def test_functions(tmp_path):
    (tmp_path / "nets.py").write_text(
        "import keras\n"
        "def dense(classes, input_shape=(4,), units=3):\n"
        "    return keras.Sequential([keras.Input(input_shape), keras.layers.Dense(units),\n"
        "                             keras.layers.Dense(classes)])\n"
        "def unbuilt(): return keras.Sequential([keras.layers.Dense(2)])\n"
        "def no_model(): return 'a model'\n"
        "def broken(): raise RuntimeError('first line\\nsecond line')\n"
    )
    model = models.load("nets.py:dense", {"units": 6}, root=tmp_path, input_shape=(9,), classes=5)
    assert model.input_shape == (None, 4) and model.output_shape == (None, 5)
    assert model.layers[0].units == 6
    for name, message in (
        ("unbuilt", "a model that is built, received one without weights; call it once"),
        ("no_model", "expected a Keras model, received str"),
        ("broken", "calling it failed with RuntimeError: first line$"),
        ("dense", "calling it failed with TypeError"),
    ):
        with pytest.raises(ModelError, match=message):
            models.load(f"nets.py:{name}", root=tmp_path)
