from __future__ import annotations

import keras
import numpy as np
import pytest

from litesmith.errors import DataError, ExportError, PresetError
from litesmith.export import calibrate, calibration, export


@pytest.mark.parametrize("kind", ["nested", "attention", "lists"])
def test_equal_to_the_quantizers_own(converted, kind):
    from litert_quantizer import quantizer, recipe

    _, float_model, inputs = converted(kind)
    flat = [array[:6] for array in keras.tree.flatten(inputs)]
    stock = quantizer.Quantizer(bytearray(float_model.content))
    stock.load_quantization_recipe(recipe.static_wi8_ai8())
    names = [spec.name for spec in float_model.inputs]
    with pytest.warns(UserWarning, match="preserve_all_tensors"):
        theirs = stock.calibrate(
            {
                "serving_default": [
                    dict(zip(names, [array[i : i + 1] for array in flat], strict=True))
                    for i in range(6)
                ]
            }
        )
    given = flat if len(flat) > 1 else flat[0]
    ours = calibrate(float_model, given, rule="moving_average").ranges
    compared = 0
    for name, value in theirs.items():
        if value:
            low, high = ours[name]
            assert low == pytest.approx(np.ravel(value["min"])[0], abs=1e-5 * (high - low) + 1e-9)
            assert high == pytest.approx(np.ravel(value["max"])[0], abs=1e-5 * (high - low) + 1e-9)
            compared += 1
    assert compared > 4


def test_extremes_do_not_depend_on_the_batch(converted):
    _, float_model, inputs = converted("nested")
    whole = calibrate(float_model, inputs, batch_size=32).ranges
    single = calibrate(float_model, inputs, batch_size=1).ranges
    assert whole.keys() == single.keys()
    for name, (low, high) in whole.items():
        assert single[name] == pytest.approx((low, high), rel=1e-4, abs=1e-5)
    first = float_model.inputs[0].name  # counts on with the models made in this process
    assert whole[first] == pytest.approx((inputs.min(), inputs.max()))


class _Sequence(keras.utils.PyDataset):
    def __init__(self, x):
        super().__init__()
        self.x = x

    def __len__(self):
        return len(self.x) // 4

    def __getitem__(self, i):
        return self.x[4 * i : 4 * i + 4], np.zeros(4)


def test_every_kind_of_data(converted):
    _, float_model, inputs = converted("nested")
    expected = calibrate(float_model, inputs).ranges
    name = float_model.inputs[0].name
    for data in (
        {name: inputs},
        [inputs],
        (inputs, np.zeros(32)),
        _Sequence(inputs),
        (inputs[i : i + 8] for i in range(0, 32, 8)),
    ):
        calibration = calibrate(float_model, data)
        assert calibration.samples == 32
        for tensor, values in expected.items():
            assert calibration.ranges[tensor] == pytest.approx(values, rel=1e-4, abs=1e-5)


def test_several_inputs_and_a_limit(converted):
    _, float_model, inputs = converted("dicts")
    seen = []
    calibration = calibrate(float_model, inputs, samples=10, batch_size=4, progress=seen.append)
    assert (calibration.samples, seen) == (10, [4, 8, 10])
    low, high = calibration.ranges["ab"]
    assert (low, high) == pytest.approx((inputs["ab"][:10].min(), inputs["ab"][:10].max()))


def _nan(x):
    x = x.copy()
    x[3, 0, 0, 0] = np.nan
    return x


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_nan, "input 'input_layer.*': expected finite numbers, received NaN or infinity"),
        (lambda x: x[:0], "expected at least one sample|expected some samples"),
        (lambda x: x[..., :1], r"expected samples of shape \(8, 8, 2\), received .*, 8, 8, 1"),
        (lambda x: x[0], "add the batch axis"),
        (lambda x: {"wrong": x}, "received wrong"),
        (lambda x: [x, x], "expected 1 inputs .*received 2"),
        (lambda x: iter(()), "sample"),
    ],
)
def test_wrong_data_write_nothing(converted, tmp_path, change, message):
    _, float_model, inputs = converted("nested")
    with pytest.raises(DataError, match=message) as caught:
        export(float_model, tmp_path / "m.tflite", quantize="int8", calibration=change(inputs))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_missing_input_and_missing_channel(converted):
    _, float_model, inputs = converted("dicts")
    with pytest.raises(DataError, match="expected an array for input 'za', received none"):
        calibrate(float_model, {"ab": inputs["ab"]})
    _, float_model, inputs = converted("sequential")
    with pytest.raises(DataError, match="add the channel axis"):
        calibrate(float_model, inputs[..., 0])


def test_another_models_calibration(converted, calibrated, tmp_path):
    calibration = calibrated("nested")[3]
    _, float_model, _ = converted("sequential")
    with pytest.raises(DataError, match="one of another model; call calibrate"):
        export(float_model, tmp_path / "m.tflite", quantize="int8", calibration=calibration)


def test_an_unknown_rule(converted):
    _, float_model, inputs = converted("nested")
    with pytest.raises(PresetError, match="received min_mx; did you mean 'min_max'"):
        calibrate(float_model, inputs, rule="min_mx")


def test_a_batch_that_hangs(converted, monkeypatch):
    _, float_model, inputs = converted("nested")
    assert calibration._TIMEOUT == 600
    monkeypatch.setattr(calibration, "_TIMEOUT", 1e-9)
    with pytest.raises(ExportError, match="did not answer within"):
        calibrate(float_model, inputs)
