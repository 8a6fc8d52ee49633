"""`tfmot.clustering.keras`: each name does its work."""

import keras
import numpy as np
import pytest
from keras import layers

import litesmith.tfmot as tfmot
from litesmith.errors import ModelError, RecipeError

from . import small

clustering = tfmot.clustering.keras
How = clustering.CentroidInitialization


def test_cluster_weights_of_a_model():
    model = small.network()
    before = small.kernels(model)
    clustered = clustering.cluster_weights(model, 6)
    small.fit(clustered)
    stripped = clustering.strip_clustering(clustered)
    found = small.distinct(stripped)
    assert found["conv"] <= 6 and found["hidden"] == 6 and found["head"] <= 6
    assert found["depthwise"] == 72  # as in tfmot
    assert small.is_plain(stripped) and small.same(clustered, stripped)
    for name, value in small.kernels(model).items():  # tfmot guts the model it is given
        np.testing.assert_array_equal(value, before[name])


def test_batch_normalization_trains_in_a_clustered_model():
    # In tfmot it runs in inference mode, and its statistics stay.
    clustered = clustering.cluster_weights(small.network(), 6)
    small.fit(clustered)
    assert np.abs(keras.ops.convert_to_numpy(clustered.get_layer("norm").moving_mean)).max() > 0


def test_a_list_and_a_frozen_layer():
    frozen = layers.Dense(8, name="a", trainable=False)
    made = clustering.cluster_weights(
        [frozen, layers.Dense(4, activation="softmax", name="b")], number_of_clusters=3
    )
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), *made])
    assert small.distinct(clustering.strip_clustering(small.fit(model))) == {"a": 3, "b": 3}


@pytest.mark.parametrize("how", list(How))
def test_centroid_initialization(how):
    # DENSITY_BASED gives tfmot's users fewer values than they ask for.
    model = small.network()
    clustering.cluster_weights(model.get_layer("hidden"), 64, how)
    values = np.unique(small.kernels(clustering.strip_clustering(model))["hidden"])
    assert len(values) == 64
    if how is How.LINEAR:
        original = small.kernels(small.network())["hidden"]
        ends = np.linspace(original.min(), original.max(), 64)
        size = np.abs(original).max()  # a centroid is kept in eleven bits
        np.testing.assert_allclose(values, ends, rtol=0, atol=2**-12 * size + 1e-6)
    assert str(how.value) == f"CentroidInitialization.{how.name}"


def test_experimental_cluster_weights():
    experimental = clustering.experimental.cluster_weights
    model = tfmot.sparsity.keras.strip_pruning(
        tfmot.sparsity.keras.prune_low_magnitude(small.network())
    )
    kept = clustering.strip_clustering(small.fit(experimental(model, 5, preserve_sparsity=True)))
    assert small.sparsity(kept)["hidden"] >= 0.5 and small.distinct(kept)["hidden"] <= 5

    by_channel = small.fit(experimental(small.network(), 3, cluster_per_channel=True))
    stripped = clustering.strip_clustering(by_channel)
    kernel = small.kernels(stripped)["conv"]
    counts = [len(np.unique(kernel[..., channel])) for channel in range(8)]
    assert counts == [3] * 8 and small.distinct(stripped)["hidden"] == 3
    # tfmot skips a convolution without bias, as this one is, with a warning.
    alone = experimental(small.network().get_layer("conv"), 3, cluster_per_channel=True)
    assert alone.name == "conv"
    with pytest.raises(RecipeError, match="preserve_sparsity"):
        experimental(model, 5, preserve_sparsity="yes")


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((1,), {}, "from 2 to 256"),
        ((300,), {}, "from 2 to 256"),
        ((4, "linear"), {}, "a CentroidInitialization"),
        ((4,), {"cluster_gradient_aggregation": "SUM"}, "further keywords among"),
        ((4,), {"cluster_per_channel": 1}, "True or False"),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments, options, message):
    with pytest.raises(RecipeError, match=message):
        clustering.cluster_weights(small.network().get_layer("hidden"), *arguments, **options)


def test_what_is_no_layer_is_refused():
    # Given a Keras 3 model, tfmot returns None.
    for given in (None, 3):
        with pytest.raises(ModelError, match="a Keras 3 layer, a list of them or a model"):
            clustering.cluster_weights(given, 4)
        with pytest.raises(ModelError, match="a Keras 3 model"):
            clustering.strip_clustering(given)


class Mixer(layers.Layer, clustering.ClusterableLayer):
    """Two matrices, of which only the first is clustered."""

    algorithm = None

    def build(self, shape):
        self.first = self.add_weight(name="first", shape=(shape[-1], 8))
        self.second = self.add_weight(name="second", shape=(8, 4))

    def call(self, inputs):
        return keras.ops.softmax(inputs @ self.first @ self.second)

    def get_clusterable_weights(self):
        return [("first", self.first)]

    def get_clusterable_algorithm(self, weight_name):
        return self.algorithm


def test_a_clusterable_layer_says_what_is_clustered():
    assert clustering.clusterable_layer.ClusterableLayer is clustering.ClusterableLayer
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Flatten(),
            clustering.cluster_weights(Mixer(name="mixer"), 4),
        ]
    )
    mixer = clustering.strip_clustering(small.fit(model)).get_layer("mixer")
    counts = [len(np.unique(keras.ops.convert_to_numpy(weight))) for weight in mixer.weights]
    assert counts == [4, 32]

    class Own(Mixer):
        algorithm = clustering.ClusteringAlgorithm

    layer = Own()
    layer.build((None, 8))
    with pytest.raises(ModelError, match="get_clusterable_algorithm"):
        clustering.cluster_weights(layer, 4)


def test_clustering_algorithm():
    centroids = keras.Variable(np.array([0.5, -1.0, 2.0], "float32"))
    weight = np.array([[0.4, -3.0], [1.9, -0.2]], "float32")
    algorithm = clustering.ClusteringAlgorithm(centroids)
    index = algorithm.get_pulling_indices(weight)
    assert keras.ops.convert_to_numpy(index).tolist() == [[0, 1], [2, 0]]
    clustered = algorithm.get_clustered_weight(index, weight)
    assert keras.ops.convert_to_numpy(clustered).tolist() == [[0.5, -1.0], [2.0, 0.5]]
    other = algorithm.get_pulling_indices(weight, np.array([0.0, 2.0], "float32"))
    assert keras.ops.convert_to_numpy(other).tolist() == [[0, 0], [1, 0]]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        for how, expected in (("SUM", [2.0, 1.0, 1.0]), ("AVG", [1.0, 1.0, 1.0])):
            algorithm = clustering.ClusteringAlgorithm(centroids, how)
            kernel = tf.Variable(weight)
            with tf.GradientTape() as tape:
                total = tf.reduce_sum(algorithm.get_clustered_weight(index, kernel))
            found = tape.gradient(total, [centroids.value, kernel])
            assert tf.convert_to_tensor(found[0]).numpy().tolist() == expected
            assert found[1].numpy().tolist() == [[1.0, 1.0], [1.0, 1.0]]
    still = algorithm.average_centroids_gradient_by_cluster_size(centroids.value, [1, 2, 3])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(still), [0.5, -1.0, 2.0])
    with pytest.raises(RecipeError, match="'SUM' or 'AVG'"):
        clustering.ClusteringAlgorithm(centroids, "MAX")
    with pytest.raises(RecipeError, match="a vector"):
        clustering.ClusteringAlgorithm(weight)


def test_clustering_summaries(tmp_path):
    model = clustering.cluster_weights(small.network(), 6)
    summaries = clustering.ClusteringSummaries(str(tmp_path), profile_batch=0)
    small.fit(model, data=small.noise(64), epochs=2, callbacks=[summaries])
    points = small.points(tmp_path, "hidden/kernel/clusters_used")
    assert [(step, float(value)) for step, value in points] == [(4, 6.0), (8, 6.0)]
    (step, bins), _ = small.points(tmp_path, "clustering/hidden/kernel")
    assert step == 4 and bins.shape == (64, 3)
    kernel = small.kernels(small.network())["hidden"]
    assert bins[:, 2].sum() == kernel.size and (bins[:, 2] > 0).sum() <= 6
    with pytest.raises(ValueError, match="'epoch', 'batch' or a number"):
        clustering.ClusteringSummaries(str(tmp_path), cluster_update_freq=0)


def test_a_clustered_model_is_saved_and_goes_on(tmp_path):
    model = small.fit(clustering.cluster_weights(small.network(), 4))
    model.save(tmp_path / "clustered.keras")
    with clustering.cluster_scope():
        loaded = keras.models.load_model(tmp_path / "clustered.keras")
    assert small.same(model, loaded)
    x, y = small.noise()
    loaded.fit(x, y, verbose=0)
    assert small.distinct(clustering.strip_clustering(loaded))["hidden"] <= 4
