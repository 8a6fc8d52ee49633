"""`tfmot.sparsity.keras`: each name does its work."""

import keras
import numpy as np
import pytest
from keras import layers

import litesmith.tfmot as tfmot
from litesmith.errors import LitesmithWarning, ModelError, RecipeError

from . import small

sparsity = tfmot.sparsity.keras
Constant = sparsity.ConstantSparsity


def test_prune_low_magnitude_of_a_model():
    model = small.network()
    before = small.kernels(model)
    pruned = sparsity.prune_low_magnitude(model, Constant(0.75, 0))
    assert not pruned.compiled
    small.fit(pruned)
    stripped = sparsity.strip_pruning(pruned)
    found = small.sparsity(stripped)
    assert found["conv"] == found["hidden"] == found["head"] == 0.75
    assert found["depthwise"] == 0.0  # as in tfmot
    assert small.is_plain(stripped) and small.same(pruned, stripped)
    for name, value in small.kernels(model).items():  # the given model is left alone
        np.testing.assert_array_equal(value, before[name])
    assert (
        small.sparsity(sparsity.strip_pruning(small.fit(sparsity.prune_low_magnitude(model))))[
            "head"
        ]
        == 0.5
    )


def test_prune_low_magnitude_of_a_list():
    made = sparsity.prune_low_magnitude(
        [layers.Dense(8, name="a"), layers.Dense(4, activation="softmax", name="b")],
        Constant(0.25, 0),
    )
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), *made])
    assert small.sparsity(sparsity.strip_pruning(small.fit(model))) == {"a": 0.25, "b": 0.25}


def test_prune_low_magnitude_takes_embeddings_and_recurrent_kernels():
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Embedding(10, 8, name="table"),
            layers.LSTM(6, name="lstm"),
            layers.Dense(4, activation="softmax", name="head"),
        ]
    )
    pruned = sparsity.prune_low_magnitude(model, Constant(0.5, 0))
    stripped = sparsity.strip_pruning(pruned)
    cell = stripped.layers[-2].cell
    zeros = [float((keras.ops.convert_to_numpy(w) == 0).mean()) for w in cell.weights[:2]]
    assert small.sparsity(stripped)["table"] == 0.5 and zeros == [0.5, 0.5]


def test_blocks_and_patterns():
    model = small.network()
    blocks = sparsity.prune_low_magnitude(
        model.get_layer("hidden"), Constant(0.5, 0), block_size=(1, 4), block_pooling_type="MAX"
    )
    assert blocks is model.get_layer("hidden")
    kernel = small.kernels(sparsity.strip_pruning(model))["hidden"]
    zero = (kernel == 0).reshape(-1, 4, 4)
    assert (zero.all(axis=-1) | ~zero.any(axis=-1)).all() and zero.mean() == 0.5

    model = small.network()
    sparsity.prune_low_magnitude(model.get_layer("hidden"), sparsity_m_by_n=(2, 4))
    kernel = small.kernels(sparsity.strip_pruning(model))["hidden"]
    assert ((kernel == 0).reshape(-1, 4, 16).sum(axis=1) == 2).all()
    # tfmot leaves such a layer dense without a word.
    with pytest.raises(RecipeError, match="1 input channels are no multiple of 4"):
        sparsity.prune_low_magnitude(small.network().get_layer("conv"), sparsity_m_by_n=(2, 4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pruning_schedule": 0.5}, "a PruningSchedule"),
        ({"block_size": 4}, r"\(height, width\)"),
        ({"block_pooling_type": "MEAN"}, "'AVG' or 'MAX'"),
        ({"sparsity_m_by_n": (4, 2)}, "fewer zeros than"),
        ({"sparsity_m_by_n": 2}, "zeros, of so many"),
        ({"sparsity_m_by_n": (2, 4), "block_size": (1, 4)}, "either block_size or"),
        ({"pruning_policy": "xnnpack"}, "a PruningPolicy"),
        ({"input_dim": 4}, "did you mean|choose one of"),
        ({"block_size": (5, 5)}, "no multiple of the block's"),
    ],
)
def test_wrong_arguments_are_refused_at_once(options, message):
    with pytest.raises(RecipeError, match=message):
        sparsity.prune_low_magnitude(small.network().get_layer("hidden"), **options)


def test_what_is_no_layer_is_refused():
    for given in (3, np.zeros(3), "dense"):
        with pytest.raises(ModelError, match="a Keras 3 layer, a list of them or a model"):
            sparsity.prune_low_magnitude(given)
        with pytest.raises(ModelError, match="a Keras 3 model"):
            sparsity.strip_pruning(given)


def test_strip_pruning_copies_a_model_that_was_not_pruned():
    model = small.network()
    stripped = sparsity.strip_pruning(model)
    assert stripped is not model and small.same(model, stripped)


@keras.saving.register_keras_serializable("tests.tfmot")
class Staircase(sparsity.PruningSchedule):
    """Two steps: a quarter from the first training step, a half from the third."""

    def __call__(self, step):
        due = keras.ops.logical_or(step == 0, step == 2)
        return due, keras.ops.where(step < 2, 0.25, 0.5)

    def get_config(self):
        return {}


def test_a_schedule_of_ones_own(tmp_path):
    model = sparsity.prune_low_magnitude(small.network(), Staircase())
    reached = []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs=None: reached.append(
            small.sparsity(sparsity.strip_pruning(model))["hidden"]
        )
    )
    small.fit(model, data=small.noise(64), callbacks=[watch])
    assert reached == [0.25, 0.25, 0.5, 0.5]
    model.save(tmp_path / "pruned.keras")
    with sparsity.prune_scope():
        loaded = keras.models.load_model(tmp_path / "pruned.keras")
    assert small.same(model, loaded)
    assert small.sparsity(sparsity.strip_pruning(loaded))["hidden"] == 0.5


def test_constant_sparsity():
    schedule = Constant(0.6, 2, end_step=6, frequency=2)
    due = [bool(schedule(step)[0]) for step in range(9)]
    assert due == [False, False, True, False, True, False, True, False, False]
    assert float(schedule(4)[1]) == pytest.approx(0.6)
    again = Constant.from_config(schedule.get_config())
    assert again.get_config() == schedule.get_config()
    assert Constant(0.5, 0).end_step == -1 and Constant(0.5, 0).frequency == 100
    model = sparsity.prune_low_magnitude(small.network(), Constant(0.6, 0, end_step=1, frequency=1))
    found = small.sparsity(sparsity.strip_pruning(small.fit(model)))
    assert found["hidden"] == pytest.approx(0.6, abs=1e-3)
    for wrong in ((1.0, 0), (0.5, -1), (0.5, 4, 2), (0.5, 0, -1, 0)):
        with pytest.raises(RecipeError, match="ConstantSparsity"):
            Constant(*wrong)


def test_polynomial_decay():
    schedule = sparsity.PolynomialDecay(0.2, 0.8, 10, 30)
    assert (schedule.power, schedule.frequency) == (3, 100)
    assert float(schedule(10)[1]) == pytest.approx(0.2)
    assert float(schedule(20)[1]) == pytest.approx(0.8 - 0.6 * 0.5**3)
    assert float(schedule(99)[1]) == pytest.approx(0.8)
    assert [bool(schedule(step)[0]) for step in (9, 10, 11, 30, 31)] == [
        False,
        True,
        False,
        True,
        False,
    ]
    model = sparsity.prune_low_magnitude(
        small.network(), sparsity.PolynomialDecay(0.25, 0.5, 0, 3, frequency=1)
    )
    with pytest.warns(LitesmithWarning, match="to end at step 3, counted from 0, training after 0"):
        assert small.sparsity(sparsity.strip_pruning(model))["hidden"] == 0.25
    small.fit(model, data=small.noise(64))
    assert small.sparsity(sparsity.strip_pruning(model))["hidden"] == 0.5
    for wrong in ((0.2, 1.0, 0, 9), (0.2, 0.8, 5, 5), (0.2, 0.8, 0, 9, 0)):
        with pytest.raises(RecipeError, match="PolynomialDecay"):
            sparsity.PolynomialDecay(*wrong)


def test_a_schedule_that_grows_denser():
    model = sparsity.prune_low_magnitude(
        small.network(), sparsity.PolynomialDecay(0.75, 0.25, 0, 1, frequency=1)
    )
    assert small.sparsity(sparsity.strip_pruning(small.fit(model)))["hidden"] == 0.25


class Gate(layers.Layer, sparsity.PrunableLayer):
    """Multiplies by one matrix and then another, of which only the first is pruned."""

    def build(self, shape):
        self.first = self.add_weight(name="first", shape=(shape[-1], 8))
        self.second = self.add_weight(name="second", shape=(8, 4))

    def call(self, inputs):
        return keras.ops.softmax(inputs @ self.first @ self.second)

    def get_prunable_weights(self):
        return [self.first]


def test_a_prunable_layer_says_what_is_pruned():
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), Gate(name="gate")])
    wrapped = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Flatten(),
            sparsity.prune_low_magnitude(Gate(name="gate"), Constant(0.5, 0)),
        ]
    )
    for pruned in (sparsity.prune_low_magnitude(model, Constant(0.5, 0)), wrapped):
        gate = sparsity.strip_pruning(small.fit(pruned)).get_layer("gate")
        shares = [float((keras.ops.convert_to_numpy(w) == 0).mean()) for w in gate.weights]
        assert shares == [0.5, 0.0]


def test_a_custom_layer_that_says_nothing_is_refused_alone_and_skipped_in_a_model():
    class Silent(Gate):
        get_prunable_weights = None

        def __init__(self, **options):
            super().__init__(**options)

    class Plain(layers.Layer):
        def build(self, shape):
            self.matrix = self.add_weight(name="matrix", shape=(shape[-1], 4))

        def call(self, inputs):
            return inputs @ self.matrix

    layer = sparsity.prune_low_magnitude(Plain())
    with pytest.raises(ModelError, match="names its weights"):
        layer.build((None, 4))
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4, name="dense"), Plain(name="own")])
    stripped = sparsity.strip_pruning(sparsity.prune_low_magnitude(model))
    assert small.sparsity(stripped)["dense"] == 0.5
    assert not (keras.ops.convert_to_numpy(stripped.get_layer("own").matrix) == 0).any()


class OnlyHead(sparsity.PruningPolicy):
    """Prunes the layer called head."""

    def __init__(self):
        self.asked = []

    def allow_pruning(self, layer):
        return layer.name == "head"

    def ensure_model_supports_pruning(self, model):
        self.asked.append(model)


def test_a_pruning_policy_of_ones_own():
    policy, model = OnlyHead(), small.network()
    pruned = sparsity.prune_low_magnitude(model, pruning_policy=policy)
    found = small.sparsity(sparsity.strip_pruning(pruned))
    assert (found["head"], found["hidden"], found["conv"]) == (0.5, 0.0, 0.0)
    assert policy.asked == [model]


def mobile(stem_padding=1, activation="relu", keepdims=True, stride=1):
    """A network that XNNPACK runs sparse."""
    inputs = keras.Input((16, 16, 3))
    hidden = layers.ZeroPadding2D(stem_padding)(inputs)
    hidden = layers.Conv2D(8, 3, strides=2, padding="valid", name="stem")(hidden)
    for block in range(2):
        hidden = layers.DepthwiseConv2D(3, padding="same", strides=stride)(hidden)
        hidden = layers.BatchNormalization()(hidden)
        hidden = layers.Activation(activation)(hidden)
        hidden = layers.Conv2D(8, 1, name=f"pointwise_{block}")(hidden)
        hidden = layers.ReLU(6.0)(hidden)
    hidden = layers.GlobalAveragePooling2D(keepdims=keepdims)(hidden)
    return keras.Model(inputs, layers.Dense(4, name="head")(hidden))


def test_prune_for_latency_on_xnnpack():
    policy = sparsity.PruneForLatencyOnXNNPack()
    pruned = sparsity.prune_low_magnitude(mobile(), pruning_policy=policy)
    found = small.sparsity(sparsity.strip_pruning(pruned))
    assert found["pointwise_0"] == found["pointwise_1"] == 0.5
    assert found["stem"] == found["head"] == 0.0
    for options, message in [
        ({"stem_padding": 2}, "3×3 Conv2D of three input channels"),
        ({"activation": "tanh"}, "a Activation, activation tanh"),
        ({"keepdims": False}, "GlobalAveragePooling2D, keepdims False"),
        ({"stride": 2}, "DepthwiseConv2D"),
    ]:
        with pytest.raises(ModelError, match=message):
            policy.ensure_model_supports_pruning(mobile(**options))
    with pytest.raises(ModelError, match="in each output's branch"):
        policy.ensure_model_supports_pruning(
            keras.Model((m := mobile()).inputs, m.get_layer("pointwise_1").output)
        )


def test_update_pruning_step_is_accepted_and_not_needed():
    without = sparsity.prune_low_magnitude(small.network(), Constant(0.5, 1, frequency=1))
    small.fit(without)
    model = sparsity.prune_low_magnitude(small.network(), Constant(0.5, 1, frequency=1))
    small.fit(model, callbacks=[sparsity.UpdatePruningStep()])
    for each in (without, model):
        assert small.sparsity(sparsity.strip_pruning(each))["hidden"] == 0.5


def test_pruning_summaries(tmp_path):
    model = sparsity.prune_low_magnitude(small.network(), Constant(0.5, 2, frequency=1))
    summaries = sparsity.PruningSummaries(str(tmp_path), profile_batch=0)
    small.fit(model, data=small.noise(64), epochs=2, callbacks=[summaries])
    points = small.points(tmp_path / "metrics", "hidden/kernel/sparsity")
    assert [(step, float(value)) for step, value in points] == [(0, 0.0), (4, 0.5), (8, 0.5)]
    assert list((tmp_path / "train").iterdir())  # and what TensorBoard itself writes
    with pytest.raises(ValueError, match="the name of a folder"):
        sparsity.PruningSummaries("")


def test_a_pruned_model_is_saved_and_goes_on(tmp_path):
    model = small.fit(sparsity.prune_low_magnitude(small.network(), Constant(0.5, 0)))
    model.save(tmp_path / "pruned.keras")
    with sparsity.prune_scope():
        loaded = keras.models.load_model(tmp_path / "pruned.keras")
    x, y = small.noise()
    loaded.fit(x, y, verbose=0)
    assert small.sparsity(sparsity.strip_pruning(loaded))["hidden"] == 0.5
