"""prepare and strip beyond the contract: selection, reports, granularities, errors, stages."""

import keras
import numpy as np
import pytest
from keras import layers

import litesmith as ls
from litesmith.errors import LitesmithWarning, ModelError, RecipeError
from litesmith.testing import KINDS

pytestmark = pytest.mark.every_backend
to_numpy = keras.ops.convert_to_numpy


@pytest.fixture(scope="module")
def model():
    return KINDS["functional"].make()


def taken(prepared):
    return {entry.layer for entry in prepared.report.done}


def zeros(model):
    return {w.path: int((to_numpy(w) == 0).sum()) for w in model.weights if "kernel" in w.path}


def test_where_takes_a_regex_a_class_a_predicate_or_a_list(model):
    def names(where):
        return taken(ls.prepare(model, ls.Prune(sparsity=0.5, where=where)))

    everything = names(None)
    assert names("head") == {"head"}
    assert names(layers.Dense) == {"head", "frozen"}
    assert names(lambda layer: layer.name == "frozen") == {"frozen"}
    assert names(["head", layers.Conv2D]) == everything - {"frozen"}
    depthwise = names(layers.DepthwiseConv2D)
    assert len(depthwise) == 1
    assert not depthwise & everything


@pytest.mark.parametrize(
    "where, words",
    [
        ("hea", "did you mean 'head'?"),
        (["head", "froze"], "did you mean 'frozen'?"),
        (layers.LSTM, "a class of which the model has layers, received LSTM"),
    ],
)
def test_a_where_that_matches_nothing_names_the_nearest_layer(model, where, words):
    with pytest.raises(RecipeError) as caught:
        ls.prepare(model, ls.Prune(sparsity=0.5, where=where))
    assert words in str(caught.value)


def test_a_where_reaches_into_wrappers():
    model = KINDS["recurrent"].make()
    where = r"both/forward_gru/gru_cell"
    prepared = ls.prepare(model, ls.Prune(sparsity=0.5, where=where))
    variables = prepared.report.variables("prune")
    assert len(variables) == 2
    assert all("forward" in path for path in variables)


def test_a_where_that_names_a_layer_in_between_takes_what_is_inside():
    model = KINDS["recurrent"].make()
    for where in ("both/forward_gru", layers.GRU):
        done = ls.prepare(model, ls.Prune(sparsity=0.5, where=where)).report.done
        assert {entry.layer for entry in done} == {"both"}
        assert len(done) == (2 if where == "both/forward_gru" else 4)


def test_what_training_does_not_touch_is_no_kernel():
    inputs = layers.Input((8, 8, 4))
    wrapped = layers.SpectralNormalization(layers.Conv2D(4, 3, name="inner"), name="outer")
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(wrapped(inputs)))
    report = ls.prepare(model, ls.Prune(sparsity=0.5, where=".*"), strict=True).report
    (entry,) = report.entries
    assert entry.variable.endswith("kernel")


def test_coarse_units_leave_one():
    inputs = layers.Input((4,))
    model = keras.Model(inputs, layers.Dense(2)(inputs))
    technique = ls.Prune(sparsity=0.8, granularity=ls.PerChannel())
    (entry,) = ls.prepare(model, technique).report.done
    assert entry.detail["sparsity"] == 0.5


def test_a_loaded_prepared_model_knows_its_origin(tmp_path):
    prepared = ls.prepare(KINDS["sequential"].make(), ls.Prune(sparsity=0.5))
    prepared.save(tmp_path / "prepared.keras")
    loaded = keras.saving.load_model(tmp_path / "prepared.keras")
    assert ls.origin(loaded) == ls.origin(prepared)
    assert ls.origin(ls.strip(loaded)).recipe == ls.Recipe(ls.Prune(sparsity=0.5))
    assert ls.origin(KINDS["sequential"].make()) is None
    assert ls.origin("model.keras") is None


def test_a_layer_that_stands_alone_and_in_a_wrapper_is_refused_with_the_reason():
    dense, inputs = layers.Dense(4, name="twice"), layers.Input((3, 4))
    hidden = layers.TimeDistributed(dense, name="each")(inputs)
    model = keras.Model(inputs, dense(layers.Flatten()(hidden)[:, :4]))
    with pytest.raises(ModelError, match="'twice' in '.*' and in '.*', of which Keras makes two"):
        ls.prepare(model, ls.Prune(sparsity=0.5))


def test_what_cannot_be_taken_is_reported_and_strict_makes_it_an_error(model):
    technique = ls.Prune(granularity=ls.NOfM(2, 7))
    with pytest.warns(LitesmithWarning, match="no layer of the model was taken"):
        report = ls.prepare(model, technique).report
    reasons = {entry.reason for entry in report.skipped}
    assert "its 4 input channels are no multiple of 7" in reasons
    assert "prune: no layer of the model was taken" in report.notes
    with pytest.raises(RecipeError, match="no multiple of 7; leave that layer out"):
        ls.prepare(model, technique, strict=True)


def test_a_named_layer_without_a_kernel_is_reported(model):
    where = ["head", layers.BatchNormalization]
    report = ls.prepare(model, ls.Prune(sparsity=0.5, where=where)).report
    assert {entry.reason for entry in report.skipped} == {"it has no kernel"}


def test_the_report_prints_as_a_table(model):
    text = str(ls.prepare(model, ls.Prune(sparsity=0.5)).report)
    assert "head" in text
    assert "sparsity 0.5" in text
    assert "depthwise kernels are taken only when `where` asks" in text


def test_a_schedule_that_ends_after_training_is_noted_and_strip_warns():
    model = KINDS["shared layer"].make()
    technique = ls.Prune(sparsity=0.8, schedule=ls.PolynomialDecay(end_step=500, frequency=1))
    prepared = ls.prepare(model, technique, steps=6)
    assert "step 500, but training ends after 6 steps" in prepared.report.notes[0]
    prepared.compile("sgd", "sparse_categorical_crossentropy")
    x, y = KINDS["shared layer"].data()
    prepared.fit(x, y, batch_size=8, verbose=0)
    with pytest.warns(LitesmithWarning, match="end at step 500, counted from 0, training after 6"):
        ls.strip(prepared)


@pytest.mark.parametrize("frequency, times", [(100, "once"), (30, "3 times"), (18, ""), (1, "")])
def test_a_schedule_that_is_gradual_in_name_only_is_noted(frequency, times):
    model = KINDS["shared layer"].make()
    schedule = ls.PolynomialDecay(begin_step=10, end_step=100, frequency=frequency)
    notes = ls.prepare(model, ls.Prune(sparsity=0.8, schedule=schedule), steps=270).report.notes
    assert len(notes) == bool(times)
    if times:
        assert f"between step 10 and 100 masks are made anew {times} only" in notes[0]
        assert f"frequency={frequency}: with frequency=1 " in notes[0]


def test_a_shared_layer_counts_one_step_a_step():
    model = KINDS["shared layer"].make()
    prepared = ls.prepare(model, ls.Prune(sparsity=0.5))
    prepared.compile("sgd", "sparse_categorical_crossentropy")
    x, y = KINDS["shared layer"].data()
    prepared.fit(x, y, batch_size=8, verbose=0)
    counts = {
        layer.name: layer.litesmith_holder.links[0].progress()["steps"]
        for layer in prepared.layers
        if hasattr(layer, "litesmith_holder")
    }
    assert counts == {"twice": 6, "head": 6}


def test_without_a_schedule_the_prepared_model_is_sparse_at_once(model):
    prepared = ls.prepare(model, ls.Prune(sparsity=0.75))
    assert {e.variable: e.detail["zeros"] for e in prepared.report.done}.items() <= zeros(
        ls.strip(prepared)
    ).items()


@pytest.mark.parametrize("ranking", ["global", "lamp"])
def test_a_ranking_gives_exactly_the_asked_share_over_all_kernels(model, ranking):
    prepared = ls.prepare(model, ls.Prune(sparsity=0.6, ranking=ranking))
    dropped = sum(entry.detail["zeros"] for entry in prepared.report.done)
    weights = sum(entry.detail["weights"] for entry in prepared.report.done)
    assert dropped == round(0.6 * weights)
    assert len({round(entry.detail["sparsity"], 3) for entry in prepared.report.done}) > 1
    found = zeros(ls.strip(prepared))
    assert all(found[e.variable] == e.detail["zeros"] for e in prepared.report.done)


def test_whole_output_channels_are_zero():
    model = KINDS["sequential"].make()
    technique = ls.Prune(sparsity=0.5, granularity=ls.PerChannel(), where=layers.Conv2D)
    stripped = ls.strip(ls.prepare(model, technique))
    kernel = to_numpy(stripped.layers[0].kernel)
    assert ((kernel == 0).all(axis=(0, 1, 2))).sum() == 4


def test_whole_input_rows_are_zero():
    model = KINDS["sequential"].make()
    technique = ls.Prune(sparsity=0.25, granularity=ls.PerChannel(-2), where=layers.Conv2D)
    kernel = to_numpy(ls.strip(ls.prepare(model, technique)).layers[0].kernel)
    assert ((kernel == 0).all(axis=(0, 1, 3))).sum() == 1


def test_a_prepared_model_can_be_prepared_again():
    model = KINDS["sequential"].make()
    x, y = KINDS["sequential"].data()
    first = ls.prepare(model, ls.Prune(sparsity=0.5, where="conv2d.*"))
    first.compile("sgd", "sparse_categorical_crossentropy")
    first.fit(x, y, batch_size=8, verbose=0)
    second = ls.prepare(first, ls.Prune(sparsity=0.25, where="dense.*"))
    assert [entry.layer_type for entry in second.report.done] == ["Conv2D", "Conv2D", "Dense"]
    old, new = first.layers[0].litesmith_holder, second.layers[0].litesmith_holder
    assert old.links[0].progress() == new.links[0].progress()
    assert np.array_equal(to_numpy(old.links[0].mask), to_numpy(new.links[0].mask))
    assert len(ls.origin(second).recipe) == 2
    assert [entry.position for entry in second.report.done] == [0, 0, 1]


def test_a_layer_that_stands_in_a_model_and_in_a_nested_one_stays_one():
    dense = layers.Dense(6, name="both")
    inner_input = layers.Input((6,))
    inner = keras.Model(inner_input, dense(inner_input), name="inner")
    outer_input = layers.Input((6,))
    model = keras.Model(outer_input, dense(inner(outer_input)))
    prepared = ls.prepare(model, ls.Prune(sparsity=0.5))
    assert len(prepared.report.done) == 1
    x = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    stripped = ls.strip(prepared)
    assert len(stripped.weights) == len(model.weights)
    assert np.allclose(stripped.predict(x, verbose=0), prepared.predict(x, verbose=0), atol=1e-6)


def test_lambdas_unregistered_classes_and_local_functions_are_copied():
    class Local(layers.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(name="kernel", shape=(shape[-1], 4))

        def call(self, inputs):
            return inputs @ self.kernel

    inputs = layers.Input((4,))
    hidden = layers.Lambda(lambda x: x * 2)(Local(name="local")(inputs))
    model = keras.Model(inputs, layers.Dense(2)(hidden))
    prepared = ls.prepare(model, ls.Prune(sparsity=0.5))
    assert {entry.layer for entry in prepared.report.done} == {"local", model.layers[-1].name}
    x = np.ones((2, 4), "float32")
    assert np.allclose(ls.strip(prepared).predict(x, verbose=0), prepared.predict(x, verbose=0))


def test_a_subclassed_model_of_several_arguments_is_prepared():
    class Two(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, first, second):
            return self.dense(first) + self.dense(second)

        def get_config(self):
            return {}

    model, x = Two(), np.ones((2, 4), "float32")
    model(x, x)
    prepared = ls.prepare(model, ls.Prune(sparsity=0.5))
    assert to_numpy(prepared(x, x, training=True)).shape == (2, 3)
    assert zeros(ls.strip(prepared)) == {prepared.report.done[0].variable: 6}


def test_losses_inside_a_parametrized_layer_still_count():
    kind = KINDS["custom layer"]
    model = kind.make()
    prepared = ls.prepare(model, ls.Prune(sparsity=0.0, where="block"))
    x, y = kind.data()
    for each in (model, prepared):
        each.compile("sgd", "sparse_categorical_crossentropy")
    expected, found = (each.evaluate(x, y, verbose=0) for each in (model, prepared))
    bare = keras.losses.sparse_categorical_crossentropy(y, model.predict(x, verbose=0))
    assert found == pytest.approx(expected, rel=1e-5)
    assert found > float(np.mean(to_numpy(bare))) * 1.001


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: "model.keras", "expected a keras.Model, received str"),
        (lambda: keras.Sequential([layers.Dense(2)]), "expected a built model"),
    ],
)
def test_what_is_no_built_model_is_refused(make, words):
    with pytest.raises(ModelError, match=words):
        ls.prepare(make(), ls.Prune(sparsity=0.5))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(bad):
    model = KINDS["shared layer"].make()
    kernel = to_numpy(model.get_layer("head").kernel).copy()
    kernel[0, 0] = bad
    model.get_layer("head").kernel.assign(kernel)
    with pytest.raises(ModelError, match="weight 'head/kernel': expected finite numbers"):
        ls.prepare(model, ls.Prune(sparsity=0.5))


def test_a_model_that_cannot_be_copied_says_why():
    class NoConfig(keras.Model):
        def __init__(self, function):
            super().__init__()
            self.function, self.dense = function, layers.Dense(2)

        def call(self, inputs):
            return self.function(self.dense(inputs))

    model = NoConfig(lambda x: x * 2)
    model(np.ones((1, 3), "float32"))
    with pytest.raises(ModelError, match="cannot be copied.*get_config"):
        ls.prepare(model, ls.Prune(sparsity=0.5))


def test_strip_refuses_what_was_not_prepared():
    with pytest.raises(ModelError, match="call prepare"):
        ls.strip(KINDS["shared layer"].make())
    with pytest.raises(ModelError, match="expected a prepared Keras model, received str"):
        ls.strip("model.keras")  # noqa: B005


def test_a_checkpoint_from_before_prepare_loads_into_the_prepared_model(tmp_path):
    model = KINDS["sequential"].make()
    model.save_weights(tmp_path / "plain.weights.h5")
    keras.utils.set_random_seed(9)
    other = ls.prepare(KINDS["sequential"].build(), ls.Prune(sparsity=0.5))
    other.load_weights(tmp_path / "plain.weights.h5")
    kernel, found = model.layers[0].kernel, other.layers[0].kernel
    assert np.array_equal(to_numpy(kernel), to_numpy(found))


def test_a_weight_grows_back_when_another_becomes_smaller():
    inputs = layers.Input((2,))
    model = keras.Model(inputs, layers.Dense(1, use_bias=False, name="d")(inputs))
    model.get_layer("d").kernel.assign([[1.0], [0.5]])
    technique = ls.Prune(sparsity=0.5, schedule=ls.Constant(frequency=1))
    prepared = ls.prepare(model, technique)
    used = ls.strip(prepared).get_layer("d").kernel
    assert to_numpy(used).ravel().tolist() == [1.0, 0.0]
    prepared.get_layer("d").kernel.assign([[0.1], [0.5]])
    prepared(np.ones((1, 2), "float32"), training=True)
    used = ls.strip(prepared).get_layer("d").kernel
    assert to_numpy(used).ravel().tolist() == [0.0, 0.5]


@pytest.mark.parametrize("gradient, moves", [("masked", False), ("dense", True)])
def test_the_gradient_of_pruned_weights(gradient, moves):
    inputs = layers.Input((2,))
    model = keras.Model(inputs, layers.Dense(1, use_bias=False, name="d")(inputs))
    model.get_layer("d").kernel.assign([[1.0], [0.5]])
    prepared = ls.prepare(model, ls.Prune(sparsity=0.5, gradient=gradient))
    prepared.compile(keras.optimizers.SGD(0.1), "mse")
    prepared.fit(np.ones((4, 2)), np.full((4, 1), 3.0), batch_size=4, verbose=0)
    kernel = to_numpy(prepared.get_layer("d").kernel).ravel()
    assert kernel[0] != 1.0
    assert (kernel[1] != 0.5) == moves


def test_masks_stay_exact_under_mixed_precision():
    inputs = layers.Input((8, 8, 4))
    hidden = layers.Conv2D(8, 3, dtype="mixed_float16")(inputs)
    hidden = layers.BatchNormalization(dtype="mixed_float16")(hidden)
    hidden = layers.GlobalAveragePooling2D(dtype="mixed_float16")(hidden)
    model = keras.Model(inputs, layers.Dense(3, activation="softmax", dtype="float32")(hidden))
    prepared = ls.prepare(model, ls.Prune(sparsity=0.8, schedule=ls.Constant(frequency=1)))
    prepared.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    x, y = KINDS["sequential"].data()
    prepared.fit(x, y, batch_size=8, verbose=0)
    found = zeros(ls.strip(prepared))
    assert all(found[e.variable] == e.detail["zeros"] for e in prepared.report.done)
    holder = prepared.layers[1].litesmith_holder
    assert {str(keras.backend.standardize_dtype(v.dtype)) for v in holder.variables} == {
        "bool",
        "int32",
    }


def test_sparsity_does_not_cost_much_memory():
    model = keras.Sequential([layers.Input((64,)), layers.Dense(256), layers.Dense(10)])
    prepared = ls.prepare(model, ls.Prune(sparsity=0.5))

    def size(model):
        return sum(to_numpy(variable).nbytes for variable in model.weights)

    assert size(prepared) / size(model) <= 1.26
