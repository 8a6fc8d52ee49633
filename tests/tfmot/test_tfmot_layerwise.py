"""Techniques on single layers, in the ways tfmot's scripts hang them on, on every backend."""

import keras
import numpy as np
import pytest
from keras import layers

import litesmith.tfmot as tfmot
from litesmith.errors import ModelError

from . import small

sparsity, clustering = tfmot.sparsity.keras, tfmot.clustering.keras
prune = sparsity.prune_low_magnitude
half = sparsity.ConstantSparsity(0.5, 0)


def folded(model, norm="norm", kernel="conv"):
    """Distinct values of a kernel once BatchNorm is folded in, with a little room for floats."""
    layer = model.get_layer(norm)
    gamma, variance = (keras.ops.convert_to_numpy(v) for v in (layer.gamma, layer.moving_variance))
    scale = gamma / np.sqrt(variance + layer.epsilon)
    values = np.sort((small.kernels(model)[kernel] * scale).ravel())
    return 1 + int((np.diff(values) > 1e-5 * np.abs(values).max()).sum())


@pytest.mark.every_backend
def test_a_sequential_model_that_mixes_wrapped_and_plain_layers():
    model = keras.Sequential(
        [
            prune(layers.Conv2D(8, 3, name="conv"), half, input_shape=(8, 8, 1), name="first"),
            layers.Flatten(),
            layers.Dense(8, name="plain"),
            prune(layers.Dense(4, activation="softmax", name="head"), half),
        ]
    )
    assert model.built and model.get_layer("first").name == "first"
    found = small.sparsity(sparsity.strip_pruning(small.fit(model)))
    assert found == {"first": 0.5, "plain": 0.0, "head": 0.5}


@pytest.mark.every_backend
def test_a_sequential_model_that_fit_builds():
    model = keras.Sequential(
        [layers.Flatten(), prune(layers.Dense(4, activation="softmax", name="head"), half)]
    )
    stripped = sparsity.strip_pruning(small.fit(model))
    assert small.sparsity(stripped) == {"head": 0.5}
    whole = prune(keras.Sequential([layers.Flatten(), layers.Dense(4, name="head")]), half)
    whole.build((None, 8, 8, 1))
    assert small.sparsity(sparsity.strip_pruning(whole)) == {"head": 0.5}


@pytest.mark.every_backend
def test_clusters_in_a_graph_that_is_being_built_follow_the_folded_kernel(tmp_path):
    inputs = keras.Input((8, 8, 1))
    wrapped = clustering.cluster_weights(layers.Conv2D(8, 3, use_bias=False, name="conv"), 4)
    hidden = layers.BatchNormalization(name="norm")(wrapped(inputs))
    hidden = layers.Flatten()(layers.ReLU()(hidden))
    head = clustering.cluster_weights(layers.Dense(4, activation="softmax", name="head"), 5)
    model = small.fit(keras.Model(inputs, head(hidden)))
    stripped = clustering.strip_clustering(model)
    # BatchNorm is folded after tfmot's clustering, and 4 values become 4 a channel.
    assert folded(stripped) <= 4 and small.distinct(stripped)["head"] == 5
    assert small.same(model, stripped)
    model.save(tmp_path / "clustered.keras")
    with clustering.cluster_scope():
        loaded = keras.models.load_model(tmp_path / "clustered.keras")
    assert small.same(model, loaded)


@pytest.mark.every_backend
def test_clone_model_with_a_function_that_leaves_some_layers_as_they_are():
    base = small.network()
    trained = small.kernels(base)

    def dense(layer):
        return prune(layer, half) if isinstance(layer, layers.Dense) else layer

    pruned = keras.models.clone_model(base, clone_function=dense)
    assert pruned.get_layer("hidden") is base.get_layer("hidden")  # as in tfmot
    zero = small.kernels(sparsity.strip_pruning(pruned))["hidden"]
    np.testing.assert_array_equal(zero[zero != 0], trained["hidden"][zero != 0])
    found = small.sparsity(sparsity.strip_pruning(small.fit(pruned)))
    assert (found["hidden"], found["head"], found["conv"]) == (0.5, 0.5, 0.0)

    def everything(layer):
        return clustering.cluster_weights(layer, 4)

    clustered = keras.models.clone_model(small.network(), clone_function=everything)
    stripped = clustering.strip_clustering(clustered)
    assert folded(stripped) <= 4 and small.distinct(stripped)["hidden"] == 4


@pytest.mark.every_backend
def test_wrapping_again_replaces_and_another_technique_is_added():
    layer = small.network().get_layer("hidden")
    prune(prune(layer, half), sparsity.ConstantSparsity(0.75, 0))
    clustering.cluster_weights(layer, 5)
    model = keras.Sequential([keras.Input((72,)), layer, layers.Dense(4, activation="softmax")])
    stripped = sparsity.strip_pruning(model)
    assert small.sparsity(stripped)["hidden"] == 0.75
    assert small.distinct(stripped)["hidden"] == 5


def test_a_layer_that_waits_is_saved_and_loaded(tmp_path):
    model = keras.Sequential(
        [layers.Flatten(), prune(layers.Dense(4, activation="softmax", name="head"), half)]
    )
    again = keras.Sequential.from_config(model.get_config())
    again.build((None, 8, 8, 1))
    assert small.sparsity(sparsity.strip_pruning(again)) == {"head": 0.5}


def test_a_subclassed_model_and_a_loop_written_by_hand():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.flatten = layers.Flatten()
            self.head = prune(layers.Dense(4, name="head"), sparsity.ConstantSparsity(0.5, 1))

        def call(self, inputs, training=None):
            return self.head(self.flatten(inputs))

    import tensorflow as tf

    model, optimizer = Subclassed(), keras.optimizers.Adam()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    step = sparsity.UpdatePruningStep()
    step.set_model(model)
    step.on_train_begin()
    x, y = small.noise()
    for _ in range(3):
        step.on_train_batch_begin(batch=-1)
        with tf.GradientTape() as tape:
            value = loss(y, model(x, training=True))
        gradients = tape.gradient(value, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        step.on_epoch_end(batch=-1)
    (link,) = model.head.litesmith_holder.links
    assert link.progress() == {"sparsity": 0.5, "steps": 3}


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="how TensorFlow builds")
def test_clusters_want_weights_before_training():
    model = keras.Sequential(
        [layers.Flatten(), clustering.cluster_weights(layers.Dense(4, name="head"), 4)]
    )
    with pytest.raises(ModelError, match=r"give the model a keras\.Input"):
        small.fit(model)
    model = keras.Sequential(
        [layers.Flatten(), clustering.cluster_weights(layers.Dense(4, name="head"), 4)]
    )
    x, _ = small.noise()
    model(x)
    assert small.distinct(clustering.strip_clustering(small.fit(model))) == {"head": 4}


def test_marks_do_not_drive_each_other_out():
    annotate = tfmot.quantization.keras.quantize_annotate_layer
    with pytest.raises(ModelError, match="waits to be built"):
        annotate(prune(layers.Dense(4), half))
    with pytest.raises(ModelError, match="prune or cluster, strip, then annotate"):
        prune(annotate(layers.Dense(4)), half)
