"""The classic walk-through, written with tfmot's names: only imports and Keras 3's own changes.

A small stand-in for EfficientNetB0 on handwritten digits: baseline, pruned dense layers, the whole
model clustered at 16, dense layers quantized, the whole model quantized; each to `.tflite`. Then
the same network after training: float16, dynamic range, full integer, the bar chart.
"""

import gzip
import pathlib

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import litesmith as ls
import litesmith.tfmot as tfmot

from . import small

# TensorFlow's converter and interpreter warn of their own end.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")


def backbone():
    """Expansion, depthwise convolution, squeeze and excite, projection: EfficientNet's block."""
    inputs = keras.Input((8, 8, 1))
    hidden = layers.Conv2D(24, 3, padding="same", use_bias=False)(inputs)
    hidden = layers.BatchNormalization(momentum=0.9)(hidden)
    stem = layers.Activation("swish")(hidden)
    hidden = layers.Conv2D(64, 1, use_bias=False)(stem)
    hidden = layers.BatchNormalization(momentum=0.9)(hidden)
    hidden = layers.Activation("swish")(hidden)
    hidden = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(hidden)
    hidden = layers.BatchNormalization(momentum=0.9)(hidden)
    hidden = layers.Activation("swish")(hidden)
    squeezed = layers.GlobalAveragePooling2D(keepdims=True)(hidden)
    squeezed = layers.Conv2D(8, 1, activation="swish")(squeezed)
    squeezed = layers.Conv2D(64, 1, activation="sigmoid")(squeezed)
    hidden = layers.Multiply()([hidden, squeezed])
    hidden = layers.Conv2D(24, 1, use_bias=False)(hidden)
    hidden = layers.BatchNormalization(momentum=0.9)(hidden)
    hidden = layers.Add()([hidden, stem])
    return inputs, layers.GlobalMaxPooling2D()(hidden)


def compiled(model, rate=3e-3):
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate=rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="module")
def data():
    return small.digits()


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """The trained baseline's file and its accuracy."""
    keras.utils.set_random_seed(0)
    inputs, features = backbone()
    hidden = layers.Dense(96, activation="relu")(features)
    hidden = layers.BatchNormalization(momentum=0.9)(hidden)
    hidden = layers.Dense(48, activation="relu")(hidden)
    hidden = layers.Dropout(0.2)(hidden)
    model = compiled(keras.Model(inputs, layers.Dense(10, activation="softmax")(hidden)))
    file = tmp_path_factory.mktemp("baseline") / "baseline.keras"
    checkpoint = keras.callbacks.ModelCheckpoint(file, monitor="val_accuracy", save_best_only=True)
    plateau = keras.callbacks.ReduceLROnPlateau(monitor="val_loss", patience=4)
    model.fit(
        *data[0], epochs=14, verbose=0, validation_data=data[1], callbacks=[checkpoint, plateau]
    )
    accuracy = keras.models.load_model(file).evaluate(*data[1], verbose=0)[1]
    assert accuracy > 0.9
    return file, accuracy


def converted(model):
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return converter.convert()


def test_prune_the_dense_layers(trained, data, tmp_path):
    file, baseline = trained
    model = keras.models.load_model(file)
    steps = int(np.ceil(len(data[0][0]) / 32)) * 3
    pruning_params = {
        "pruning_schedule": tfmot.sparsity.keras.PolynomialDecay(
            initial_sparsity=0.50, final_sparsity=0.80, begin_step=0, end_step=steps, frequency=10
        )
    }

    def apply_pruning_to_dense(layer):
        if isinstance(layer, keras.layers.Dense):
            return tfmot.sparsity.keras.prune_low_magnitude(layer, **pruning_params)
        return layer

    model_for_pruning = keras.models.clone_model(model, clone_function=apply_pruning_to_dense)
    compiled(model_for_pruning)
    callbacks = [
        tfmot.sparsity.keras.UpdatePruningStep(),
        tfmot.sparsity.keras.PruningSummaries(log_dir=str(tmp_path), profile_batch=0),
    ]
    model_for_pruning.fit(
        *data[0], epochs=5, verbose=0, validation_data=data[1], callbacks=callbacks
    )
    model_for_export = tfmot.sparsity.keras.strip_pruning(model_for_pruning)
    for layer in model_for_export.layers:
        if isinstance(layer, keras.layers.Dense):
            zeros = (keras.ops.convert_to_numpy(layer.kernel) == 0).mean()
            assert zeros == pytest.approx(0.8, abs=0.01)
    accuracy = small.through_litert(converted(model_for_export), tmp_path, data[1])
    assert accuracy >= baseline - 0.05


def test_cluster_the_whole_model_at_16(trained, data, tmp_path):
    file, baseline = trained
    model = keras.models.load_model(file)
    clustering_params = {
        "number_of_clusters": 16,
        "cluster_centroids_init": tfmot.clustering.keras.CentroidInitialization.LINEAR,
    }
    clustered_model = tfmot.clustering.keras.cluster_weights(model, **clustering_params)
    compiled(clustered_model, 5e-4).fit(*data[0], epochs=6, verbose=0, validation_data=data[1])
    final_model = tfmot.clustering.keras.strip_clustering(clustered_model)
    artifact = ls.export(final_model, tmp_path / "clustered.tflite")
    for kernel in artifact.manifest.kernels:
        depthwise = "depthwise" in kernel.layer
        assert depthwise or kernel.unique <= 16, kernel
    accuracy = ls.evaluate(artifact, data[1], metrics=["accuracy"]).metrics["accuracy"]
    assert accuracy >= baseline - 0.02  # the published run lost 28 points
    content = converted(final_model)
    # The converter's dynamic range costs this small network up to 3.6 points of its own.
    assert small.through_litert(content, tmp_path, data[1]) >= baseline - 0.05


def test_quantize_the_dense_layers(trained, data, tmp_path):
    file, baseline = trained
    model = keras.models.load_model(file)

    def apply_quantization_to_dense(layer):
        if isinstance(layer, keras.layers.Dense):
            return tfmot.quantization.keras.quantize_annotate_layer(layer)
        return layer

    annotated_model = keras.models.clone_model(model, clone_function=apply_quantization_to_dense)
    quant_aware_model = tfmot.quantization.keras.quantize_apply(annotated_model)
    compiled(quant_aware_model, 5e-4).fit(*data[0], epochs=2, verbose=0, validation_data=data[1])
    names = [layer.name for layer in quant_aware_model.layers]
    assert sum(name.startswith("quant_dense") for name in names) == 3
    content = converted(quant_aware_model)
    assert small.types(content)["INT8"] >= 3 and small.types(content)["FLOAT32"] > 3
    accuracy = small.through_litert(content, tmp_path, data[1])
    assert accuracy >= baseline - 0.02
    assert accuracy == pytest.approx(quant_aware_model.evaluate(*data[1], verbose=0)[1], abs=0.01)


def test_quantize_the_whole_model(trained, data, tmp_path):
    file, baseline = trained
    model = keras.models.load_model(file)
    quant_aware_model = tfmot.quantization.keras.quantize_model(model)
    compiled(quant_aware_model, 5e-4).fit(*data[0], epochs=2, verbose=0, validation_data=data[1])
    quant_aware_model.save(tmp_path / "quantized.keras")
    with tfmot.quantization.keras.quantize_scope():
        loaded = keras.models.load_model(tmp_path / "quantized.keras")
    content = converted(loaded)
    types = small.types(content)
    assert types["INT8"] > 10 * types["FLOAT32"]  # floats at the two ends only
    assert len(content) < 0.85 * len(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    accuracy = small.through_litert(content, tmp_path, data[1])
    assert accuracy >= baseline - 0.03
    assert accuracy == pytest.approx(loaded.evaluate(*data[1], verbose=0)[1], abs=0.02)
    artifact = ls.export(loaded, tmp_path / "ours.tflite", quantize="int8")
    ours = ls.evaluate(artifact, data[1], reference=loaded)
    assert ours.agreement >= 0.99


def gzipped_size(file):
    return len(gzip.compress(pathlib.Path(file).read_bytes()))


def evaluate_model(interpreter, x_test, y_test):
    """The loop by hand, one picture at a time, that everybody has written."""
    input_details = interpreter.get_input_details()[0]
    output_details = interpreter.get_output_details()[0]
    predictions = []
    for test_image in x_test:
        if input_details["dtype"] == np.uint8:
            input_scale, input_zero_point = input_details["quantization"]
            test_image = test_image / input_scale + input_zero_point
        test_image = np.expand_dims(test_image, axis=0).astype(input_details["dtype"])
        interpreter.set_tensor(input_details["index"], test_image)
        interpreter.invoke()
        predictions.append(np.argmax(interpreter.get_tensor(output_details["index"])[0]))
    return (np.array(predictions) == y_test).mean()


def test_the_network_after_training(trained, data, tmp_path):
    file, baseline = trained
    with tfmot.quantization.keras.quantize_scope():
        model = keras.models.load_model(file)

    def representative_data_gen():
        for value in tf.data.Dataset.from_tensor_slices(data[0][0]).batch(1).take(100):
            yield [value]

    converters = {}
    for name in ("baseline", "float16", "dynamic range", "full integer"):
        converters[name] = tf.lite.TFLiteConverter.from_keras_model(model)
        if name != "baseline":
            converters[name].optimizations = [tf.lite.Optimize.DEFAULT]
    converters["float16"].target_spec.supported_types = [tf.float16]
    integer = converters["full integer"]
    integer.representative_dataset = representative_data_gen
    integer.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    integer.inference_input_type = integer.inference_output_type = tf.uint8
    accuracies, sizes = {}, {}
    for name, converter in converters.items():
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(converter.convert())
        interpreter = tf.lite.Interpreter(model_path=str(path))
        interpreter.allocate_tensors()
        accuracies[name] = evaluate_model(interpreter, *data[1])
        sizes[name] = gzipped_size(path)
        # Both ways of evaluating agree; a rounded tie apart.
        ours = ls.evaluate(path, data[1], metrics=["accuracy"]).metrics["accuracy"]
        assert ours == pytest.approx(accuracies[name], abs=0.005), name
    assert accuracies["baseline"] == pytest.approx(baseline, abs=1e-6)
    assert min(accuracies.values()) >= baseline - 0.03, accuracies
    assert sizes["float16"] < 0.75 * sizes["baseline"]
    assert sizes["full integer"] < sizes["float16"]
    figure, axes = plt.subplots(1, 2)
    axes[0].bar(list(accuracies), list(accuracies.values()))
    axes[1].bar(list(sizes), list(sizes.values()))
    figure.savefig(tmp_path / "bars.png")
    plt.close(figure)
    assert (tmp_path / "bars.png").stat().st_size > 5000
