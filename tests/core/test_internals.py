"""Each dependency on a Keras internal, tried by itself against the installed Keras."""

import keras
import numpy as np
import pytest
from keras import layers

from litesmith.parametrize import internals

pytestmark = pytest.mark.every_backend


@pytest.fixture
def dense():
    layer = layers.Dense(3, name="dense")
    layer.build((None, 4))
    return layer


@pytest.fixture
def child():
    layer = layers.Dense(2, name="child")
    layer.build((None, 2))
    return layer


def test_a_built_layer_takes_a_child_and_stays_locked(dense, child):
    internals.add_child(dense, "child", child)
    assert any(weight is child.kernel for weight in dense.weights)
    assert internals.children(dense) == [child]
    with pytest.raises(ValueError, match="cannot add new elements"):
        dense.other = layers.Dense(1)


def test_a_child_moves_behind_its_siblings(dense, child):
    other = layers.Dense(2, name="other")
    other.build((None, 2))
    internals.add_child(dense, "child", child)
    internals.add_child(dense, "other", other)
    internals.move_last(dense, child)
    assert internals.children(dense) == [other, child]
    assert dense.weights[-1] is child.bias


def test_a_class_is_exchanged_and_state_stays(dense):
    class Other(layers.Dense):
        pass

    kernel = dense.kernel
    internals.set_class(dense, Other)
    assert type(dense) is Other
    assert dense.kernel is kernel


def test_own_variables_are_the_layer_s_and_its_seeds():
    dropout = layers.Dropout(0.5, seed=1)
    assert [v.shape for v in internals.own_variables(dropout)] == [(2,)]
    norm = layers.BatchNormalization()
    norm.build((None, 4))
    assert len(internals.own_variables(norm)) == 4
    assert len(internals.own_trainable_variables(norm)) == 2
    norm.trainable = False
    assert len(internals.own_trainable_variables(norm)) == 2


def test_paths_and_flags_are_set(dense):
    internals.set_path(dense.kernel, "some/where/kernel")
    assert dense.kernel.path == "some/where/kernel"
    frozen = layers.Dense(3, trainable=False)
    internals.copy_trainable_flag(frozen, dense)
    assert dense.trainable is False


def test_models_whose_config_holds_their_layers():
    class Own(keras.Sequential):
        def get_config(self):
            return {}

    inputs = layers.Input((2,))
    assert internals.is_functional(keras.Sequential([layers.Input((2,)), layers.Dense(1)]))
    assert internals.is_functional(keras.Model(inputs, layers.Dense(1)(inputs)))
    assert not internals.is_functional(Own([layers.Input((2,)), layers.Dense(1)]))
    assert not internals.is_functional(layers.Dense(1))


def test_untracked_attributes_are_no_children(child):
    layer = layers.Dense(1)
    with internals.untracked():
        layer.friend = child
    assert internals.children(layer) == []


def test_variables_are_read_in_their_own_type():
    class Reads(layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight(name="scale", shape=())

        def call(self, inputs):
            read.append(keras.backend.standardize_dtype(self.scale.value.dtype))
            with internals.without_autocast():
                read.append(keras.backend.standardize_dtype(self.scale.value.dtype))
            return inputs

    read = []
    Reads(dtype="mixed_float16")(np.ones((1, 2), "float32"))
    assert read[-2:] == ["float16", "float32"]


def test_losses_have_somewhere_to_go_but_in_a_scope_that_drops_them():
    assert internals.outer_scope_collects_losses()
    with keras.StatelessScope():
        assert not internals.outer_scope_collects_losses()
    with keras.StatelessScope(collect_losses=True):
        assert internals.outer_scope_collects_losses()


def test_a_pass_on_shapes_alone_tells_how_often_it_ran():
    calls = []

    class Counts(layers.Layer):
        def call(self, inputs):
            calls.append(1)
            return inputs

    inputs = {"a": layers.Input((2,), name="a")}
    model = keras.Model(inputs, Counts()(inputs["a"]))
    calls.clear()
    passes = internals.infer(model, internals.symbolic_inputs(model))
    assert passes >= 1
    assert len(calls) == passes


def test_what_is_built_without_weights_never_gets_any():
    with internals.without_weights():
        layer = keras.layers.Dense(3)
        layer.build((None, 2))
    assert tuple(layer.kernel.shape) == (2, 3)
    with keras.StatelessScope():  # Keras gives values to all that wait for them when it ends
        later = keras.layers.Dense(3)
        later.build((None, 2))
    assert later.kernel._value is not None
    assert layer.kernel._value is None


def test_a_layer_takes_numbers_and_slices_as_positional_arguments():
    class Slice(layers.Layer):
        def call(self, inputs, key):
            return inputs[key]

    plain, loose = Slice(), Slice()
    value = keras.ops.ones((2, 3))
    with pytest.raises(ValueError, match="positional"):
        plain(value, 0)
    internals.takes_anything(loose)
    assert loose(value, slice(0, 1)).shape == (1, 3)


def test_operations_of_a_graph_are_told_from_layers():
    inputs = layers.Input((4,))
    inner = keras.Model(inputs, layers.Dense(4)(inputs) * 2.0)
    outer = layers.Input((4,))
    model = keras.Model(outer, keras.ops.relu(inner(outer))[:, 1:])
    names = {type(each).__name__ for each in internals.bare_operations(model)}
    assert names == {"Multiply", "Relu", "GetItem"}
    assert internals.bare_operations(keras.Sequential([layers.Input((4,)), layers.Dense(2)])) == []


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_attention_is_computed_by_another_function(dropout):
    layer = layers.MultiHeadAttention(2, 4, dropout=dropout)
    value = keras.ops.ones((1, 3, 8))
    expected = layer(value, value)
    about = internals.attention(layer)
    assert about.scale == pytest.approx(0.5) and about.dropout == dropout and about.plain
    seen = []

    def change(own):
        def compute(query, *args, **kwargs):
            seen.append(tuple(query.shape))
            return own(query, *args, **kwargs)

        return compute

    with internals.attention_replaced(layer, change):
        found = layer(value, value)
    assert seen == [(1, 3, 2, 4)]
    to_numpy = keras.ops.convert_to_numpy
    assert np.array_equal(to_numpy(found), to_numpy(expected))
    layer(value, value)
    assert len(seen) == 1


@pytest.mark.parametrize("training", [None, True, False])
def test_whether_a_call_is_of_training(training):
    seen = []

    class Asking(layers.Layer):
        def call(self, inputs):
            seen.append(internals.training_of_call())
            return inputs

    inputs = layers.Input((2,))
    model = keras.Model(inputs, Asking()(inputs))
    seen.clear()
    model(keras.ops.ones((1, 2)), training=training)
    assert seen == [training]
    assert internals.training_of_call() is None


def test_a_version_changes_with_every_write(dense):
    first = internals.written(dense.kernel)
    if keras.backend.backend() != "torch":
        assert first is None
        return
    assert first == internals.written(dense.kernel)
    dense.kernel.assign(dense.kernel * 2)
    second = internals.written(dense.kernel)
    assert second[0] is first[0] and second[1] != first[1]
    with keras.StatelessScope([(dense.kernel, keras.ops.ones((4, 3)))]):
        assert internals.written(dense.kernel)[0] is not first[0]
    with keras.device("meta"):
        assert internals.written(dense.kernel) is None


def test_a_value_is_that_of_the_moment(dense):
    before = keras.ops.convert_to_numpy(dense.kernel).copy()
    value = internals.value_of(dense.kernel)
    assert np.array_equal(keras.ops.convert_to_numpy(value), before)
    if keras.backend.backend() == "torch":
        assert value is dense.kernel.value  # no copy: writes are between steps
    else:
        dense.kernel.assign(dense.kernel + 1)
        assert np.array_equal(keras.ops.convert_to_numpy(value), before)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="asked for on PyTorch only")
def test_one_is_added_to_a_variable_or_to_what_the_scope_has():
    number = keras.Variable(3, dtype="int32", trainable=False)
    internals.add_one(number)
    with keras.StatelessScope([(number, keras.ops.zeros((), "int32"))]) as scope:
        internals.add_one(number)
    assert int(scope.get_current_value(number)) == 1
    assert int(keras.ops.convert_to_numpy(number)) == 4
