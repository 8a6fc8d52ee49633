"""A student and its teacher through compile and fit, on every backend."""

import keras
import numpy as np
import pytest
from keras import layers

import litesmith as ls
from litesmith.data import Split
from litesmith.distillation import answers
from litesmith.errors import DataError, ModelError, OutputError, RecipeError
from litesmith.testing.kinds import KINDS

CLASSES = 4
RNG = np.random.default_rng(5)
MEANS = RNG.normal(size=(CLASSES, 6, 6, 2))
y = RNG.integers(0, CLASSES, 96)
x = (MEANS[y] + RNG.normal(0, 1.0, (96, 6, 6, 2))).astype("float32")
to_numpy = keras.ops.convert_to_numpy


def network(width, name, activation="softmax"):
    inputs = layers.Input((6, 6, 2), name="image")
    hidden = layers.Conv2D(width, 3, padding="same", use_bias=False, name="conv")(inputs)
    hidden = layers.ReLU(name="relu")(layers.BatchNormalization(momentum=0.8)(hidden))
    hidden = layers.Dropout(0.2)(layers.GlobalAveragePooling2D(name="pool")(hidden))
    return keras.Model(inputs, layers.Dense(CLASSES, activation, name="head")(hidden), name=name)


def compiled(model, rate=1e-2, loss="sparse_categorical_crossentropy", metrics=("accuracy",)):
    jit = keras.backend.backend() != "torch"
    model.compile(keras.optimizers.Adam(rate), loss, metrics=list(metrics), jit_compile=jit)
    return model


@pytest.fixture(scope="module")
def teacher():
    keras.utils.set_random_seed(1)
    model = compiled(network(16, "teacher"))
    model.fit(x, y, epochs=6, batch_size=16, verbose=0)
    return model


def state(model):
    return [to_numpy(v).copy() for v in model.variables], [v.trainable for v in model.variables]


def same(one, two):
    return one[1] == two[1] and all(
        np.array_equal(a, b) for a, b in zip(one[0], two[0], strict=True)
    )


@pytest.mark.every_backend
@pytest.mark.parametrize("cached", [False, True], ids=["asked", "cached"])
def test_a_prepared_student_learns_and_the_teacher_stays(teacher, tmp_path, cached):
    keras.utils.set_random_seed(2)
    before = state(teacher)
    student = ls.prepare(network(4, "student"), [ls.Prune(sparsity=0.5), ls.Cluster(clusters=6)])
    distiller = ls.Distiller(
        student,
        teacher,
        temperature=3.0,
        features={"relu": "relu", "pool": "pool"},
        cache=tmp_path / "answers" if cached else None,
    )
    compiled(distiller)
    data = Split(x, y).keras(16, shuffle=True) if cached else x
    options = {} if cached else {"y": y, "batch_size": 16}
    history = distiller.fit(
        data, epochs=4, validation_data=(x[:32], y[:32]), verbose=0, **options
    ).history
    for part in ("label", "teacher", "feature"):
        assert history[f"{part}_loss"][-1] < history[f"{part}_loss"][0], part
    expected = 0.1 * np.array(history["label_loss"]) + 0.9 * np.array(history["teacher_loss"])
    assert np.allclose(history["loss"], expected + history["feature_loss"], rtol=2e-2)
    assert "val_accuracy" in history and history["val_teacher_loss"][-1] > 0
    assert same(before, state(teacher))
    assert np.allclose(
        distiller.predict(x[:8], verbose=0), student.predict(x[:8], verbose=0), atol=1e-6
    )
    assert not any("call" in vars(layer) for layer in teacher.layers)
    small = ls.strip(distiller.student)
    values = to_numpy(small.get_layer("conv").kernel)
    assert (values == 0).mean() == 0.5 and len(np.unique(values)) <= 6
    small.save(tmp_path / "small.keras")
    assert keras.saving.load_model(tmp_path / "small.keras").count_params() < 400


@pytest.mark.every_backend
def test_the_gradient_is_that_of_the_mixed_labels(teacher):
    """At temperature 1 soft targets are labels: one step from the same start is the same."""
    answers = teacher.predict(x, verbose=0)
    mixed = 0.3 * np.eye(CLASSES)[y] + 0.7 * answers
    found = []
    for distilled in (True, False):
        keras.utils.set_random_seed(3)
        student = network(4, "student")
        model = student
        if distilled:
            model = ls.Distiller(
                student, teacher, temperature=1.0, label_weight=0.3, teacher_weight=0.7
            )
        loss = "sparse_categorical_crossentropy" if distilled else "categorical_crossentropy"
        model.compile(keras.optimizers.SGD(0.1), loss)
        for layer in student.layers:
            if isinstance(layer, layers.Dropout):
                layer.rate = 0.0
        model.fit(x, y if distilled else mixed, batch_size=96, epochs=1, shuffle=False, verbose=0)
        found.append(student.get_weights())
    for one, two in zip(*found, strict=True):
        assert np.allclose(one, two, atol=1e-5)


@pytest.mark.every_backend
def test_several_inputs_and_outputs_without_labels(tmp_path):
    def model(width, name):
        one, two = layers.Input((3,), name="one"), layers.Input((5,), name="two")
        hidden = layers.Dense(width, "relu", name="hidden")(layers.Concatenate()([one, two]))
        outputs = {
            "kind": layers.Dense(3, "softmax", name="kind")(hidden),
            "size": layers.Dense(2, name="size")(hidden),
        }
        return keras.Model([one, two], outputs, name=name)

    keras.utils.set_random_seed(4)
    inputs = [
        RNG.normal(size=(48, 3)).astype("float32"),
        RNG.normal(size=(48, 5)).astype("float32"),
    ]
    teacher, student = model(8, "teacher"), model(4, "student")
    distiller = ls.Distiller(
        student,
        teacher,
        label_weight=0.0,
        teacher_weight=1.0,
        features="hidden",
        outputs=["softmax", "values"],
        cache=tmp_path,
    )
    distiller.compile(keras.optimizers.Adam(0.02))
    history = distiller.fit(inputs, batch_size=16, epochs=6, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert history["label_loss"] == [0.0] * 6
    (folder,) = tmp_path.iterdir()
    assert sorted(path.name for path in folder.iterdir()) == [
        "0.npy",
        "1.npy",
        "2.npy",
        "answers.json",
    ]


@pytest.mark.every_backend
def test_a_subclassed_student_and_a_prepared_teacher():
    kind = KINDS["subclassed"]
    samples, labels = kind.data()
    teacher = ls.prepare(kind.make(), ls.Prune(sparsity=0.25))
    keras.utils.set_random_seed(9)
    student = ls.prepare(kind.build(), ls.Prune(sparsity=0.5))
    features = {student.pool.name: teacher.pool.name}
    distiller = compiled(ls.Distiller(student, teacher, features=features, outputs="softmax"))
    losses = distiller.fit(samples, labels, epochs=3, batch_size=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert distiller.student.layers[0].litesmith_holder.links[0].progress()["steps"] == 18


def test_answers_are_kept_for_one_teacher_and_one_set_of_samples(teacher, tmp_path, monkeypatch):
    asked, place, compute = [], tmp_path / "new" / "place", answers._compute
    monkeypatch.setattr(answers, "_compute", lambda *a: (asked.append(a[3].name), compute(*a))[1])

    def answer(samples, model=teacher, layers=()):
        named = [(name, model.get_layer(name)) for name in layers]
        return answers.answer(model, samples, named, place, 40)

    (told,) = answer(x)
    assert isinstance(told, np.memmap)
    assert np.allclose(told, teacher.predict(x, verbose=0), atol=1e-5)
    assert np.array_equal(answer(x)[0], told) and len(asked) == 1
    assert [each.shape for each in answer(x, layers=["pool"])] == [(96, 4), (96, 16)]
    assert answer(x[:64])[0].shape == (64, 4)
    answer(x, keras.models.clone_model(teacher))
    answer(Split(x).take(96).x)  # the same samples
    assert len(set(asked)) == len(asked) == 4
    # Half-written answers are no answers.
    (place / asked[0] / "answers.json").unlink()
    assert np.array_equal(answer(x)[0], told) and asked[4] == asked[0]


def test_a_cache_that_does_not_fit_or_cannot_be(teacher, tmp_path, monkeypatch):
    import shutil

    student = network(4, "s")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="expected a folder for the teacher's answers"):
        compiled(ls.Distiller(student, teacher, cache=tmp_path / "file")).fit(x, y, verbose=0)
    free = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    distiller = compiled(ls.Distiller(student, teacher, cache=tmp_path / "full"))
    with pytest.raises(OutputError, match="of free space .* leave cache out"):
        distiller.fit(x, y, verbose=0)
    assert not (tmp_path / "full").exists()
    batches = ((x[:8], y[:8]) for _ in range(2))
    with pytest.raises(DataError, match="samples whose order is known, received generator"):
        distiller.fit(batches, verbose=0)


WRONG = [
    ({"temperature": 0.0}, RecipeError, "temperature: expected a number above 0"),
    ({"label_weight": -1.0}, RecipeError, "label_weight: expected a number from 0"),
    ({"teacher_weight": 0.0}, RecipeError, "something that the teacher teaches"),
    ({"features": {"rellu": "relu"}}, RecipeError, "the student: .*did you mean 'relu'"),
    ({"features": {"relu": "rellu"}}, RecipeError, "the teacher: .*did you mean 'relu'"),
    ({"features": {"relu": "pool"}}, ModelError, "differ in their last axis"),
    ({"features": 3}, RecipeError, "features: expected"),
    ({"outputs": "logit"}, RecipeError, "did you mean 'logits'"),
]


@pytest.mark.parametrize("options, error, message", WRONG)
def test_what_cannot_be(teacher, options, error, message):
    with pytest.raises(error, match=message):
        ls.Distiller(network(4, "s"), teacher, **options)


def test_what_does_not_go_together(teacher):
    with pytest.raises(ModelError, match="expected a teacher with outputs of the student's shapes"):
        inputs = layers.Input((6, 6, 2))
        other = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(inputs)))
        ls.Distiller(other, teacher)
    with pytest.raises(ModelError, match="student: expected a built Keras model"):
        ls.Distiller(keras.Sequential([layers.Dense(2)]), teacher)
    with pytest.raises(ModelError, match="whether it gives logits"):
        ls.Distiller(network(4, "s", None), network(4, "t", None)).compile("adam")


def test_only_the_student_is_saved(teacher, tmp_path):
    distiller = compiled(ls.Distiller(network(4, "s"), teacher, features={"relu": "relu"}))
    for call in (
        lambda: distiller.save(tmp_path / "whole.keras"),
        lambda: distiller.export(tmp_path / "whole"),
        lambda: ls.strip(distiller),
        lambda: ls.prepare(distiller, ls.Prune(sparsity=0.5)),
        distiller.get_config,
    ):
        with pytest.raises(ModelError, match="use distiller.student|prepared"):
            call()
    assert not list(tmp_path.iterdir())
    distiller.fit(x, y, verbose=0)
    distiller.save_weights(tmp_path / "d.weights.h5")
    fresh = ls.Distiller(network(4, "s"), teacher, features={"relu": "relu"})
    fresh.load_weights(tmp_path / "d.weights.h5")
    pairs = zip(distiller.student.get_weights(), fresh.student.get_weights(), strict=True)
    for one, two in pairs:
        assert np.array_equal(one, two)
