"""Presets: what they stand for, and a study without a study file."""

import functools
import json
import warnings

import keras
import numpy as np
import pytest
from PIL import Image

import litesmith as ls
from litesmith.cli import run
from litesmith.errors import LitesmithWarning, ModelError, StudyError
from litesmith.models import transfer
from litesmith.study import Study, presets
from litesmith.study.plan import make_plan

from .small import SIDE, blobs, network, write_study


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """The blobs as small grey images, a folder a class."""
    folder = tmp_path_factory.mktemp("photos")
    x, y = blobs(60, 5)
    for number, (image, label) in enumerate(zip(x, y, strict=True)):
        place = folder / f"class-{label}"
        place.mkdir(exist_ok=True)
        pixels = (image[..., 0] * 200).clip(0, 255).astype("uint8")
        Image.fromarray(pixels).resize((40, 32)).save(place / f"{number}.png")
    return folder


@pytest.fixture
def offline(monkeypatch):
    """No network, at once."""

    def refuse():
        raise OSError("no network")

    monkeypatch.setattr(transfer, "_patience", refuse)


def names(preset):
    return [variant["name"] for variant in presets.variants(preset)]


def test_the_tour_has_every_technique_and_every_combination():
    recipes = {
        tuple(each["technique"] for each in variant.get("recipe", ()))
        for variant in presets.variants("tour")
    }
    three = "prune", "cluster", "quantize"
    subsets = {tuple(t for n, t in enumerate(three) if bits >> n & 1) for bits in range(8)}
    assert recipes == subsets
    for preset in presets.PRESETS:
        assert len(set(names(preset))) == len(names(preset)) >= 4
        assert "baseline" not in names(preset)


def test_every_preset_can_be_run_on_the_built_in_model():
    everything = Study.parse(
        presets.make("tour", model="builtin:digits", data="digits").text, "", "."
    )
    own = [v for preset in ("size", "speed", "balanced") for v in presets.variants(preset)]
    more = {variant["name"]: variant for variant in own if variant["name"] not in names("tour")}
    content = everything.model_dump(exclude_none=True)
    content["variant"] += more.values()
    plan = make_plan(Study.from_dict(content))
    assert len(plan.jobs) == 1 + len(names("tour")) + len(more)
    by_name = {job.variant.name: job for job in plan.jobs}
    assert "at rest from step" in str(by_name["pruned-80-clustered-16-qat"].recipe)
    assert plan.baseline.epochs == [20, 5]  # as the built-in study trains it


def test_a_preset_stands_beside_a_file_s_own_variants(tmp_path):
    own = '[[variant]]\nname = "int8"\nquantize = "dynamic_int8"\n[[variant]]\nname = "mine"\n'
    path = write_study(tmp_path, own)
    plain = Study.load(path)
    both = plain.with_preset("speed")
    assert [v.name for v in both.variants] == [
        "baseline",
        "int8",
        "mine",
        *[name for name in names("speed") if name != "int8"],
    ]
    assert both.variants[1].quantize == "dynamic_int8"
    again = Study.parse(both.text, "again", both.root)
    assert again.variants == both.variants and again.preset == "speed"
    assert both.arguments == ("--preset", "speed") and plain.arguments == ()
    assert plain.with_preset("speed", "s.toml").arguments == ("s.toml", "--preset", "speed")
    with pytest.raises(StudyError, match="--preset: expected a study that names no preset"):
        again.with_preset("size")
    (tmp_path / "wrong.toml").write_text('preset = "tuor"\n' + path.read_text())
    with pytest.raises(StudyError, match=r"wrong.toml: preset.*did you mean 'tour'\?"):
        Study.load(tmp_path / "wrong.toml")


def test_an_application_gets_a_head_a_size_and_its_scaling(images, offline, monkeypatch):
    monkeypatch.setattr(keras.applications, "MobileNetV2", small_application)
    study = presets.make(
        "speed", model="applications:MobileNetV2", data=f"images:{images}", epochs=2
    )
    assert study.data.image_size == (96, 96)
    assert study.model.arguments == {"transfer": True}
    assert study.fine_tune.epochs == study.training.total_epochs == 2
    plan = make_plan(study)
    assert plan.model.input_shape == (None, 96, 96, 1) and plan.model.output_shape == (None, 3)
    assert "ImageNet's weights could not be had (no network)" in plan.jobs[0].notes[0]
    assert plan.model.get_layer("scaling") is not None
    again = Study.parse(study.text, "study.toml", images)
    assert again.model == study.model and again.data == study.data


def small_application(*, include_top, pooling, input_shape, input_tensor, weights, alpha=1.0):
    """In place of a network of two million weights: the same arguments, and what they come to."""
    assert not include_top and pooling == "avg" and input_shape == (96, 96, 3)
    hidden = keras.layers.Conv2D(4, 3, strides=4, name="features")(input_tensor)
    outputs = keras.layers.GlobalAveragePooling2D()(hidden)
    return keras.Model(keras.utils.get_source_inputs(input_tensor), outputs)


def test_real_applications_are_built(offline):
    for name, shape in (("MobileNetV2", (32, 32, 3)), ("MobileNetV3Small", (32, 32, 1))):
        with pytest.warns(LitesmithWarning, match="random ones"):
            model = ls.models.load(
                f"applications:{name}", {"transfer": True}, input_shape=shape, classes=5
            )
        assert model.input_shape[1:] == shape and model.output_shape == (None, 5)
        assert model.layers[-1].activation is keras.activations.softmax


SCALINGS = [
    ("MobileNetV2", lambda x: x / 127.5 - 1),
    ("ResNet50V2", lambda x: x / 127.5 - 1),
    ("DenseNet121", lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]),
    ("VGG16", lambda x: x - [123.68, 116.779, 103.939]),
    ("ResNet50", lambda x: x - [123.68, 116.779, 103.939]),
    ("EfficientNetB0", lambda x: x),
    ("MobileNetV3Large", lambda x: x),
    ("ConvNeXtTiny", lambda x: x),
]


@pytest.mark.parametrize("name, expected", SCALINGS)
def test_the_scaling_each_network_wants(name, expected):
    """As the network's own `preprocess_input` has it, for pixels of 0…1."""
    family = getattr(keras.applications, name).__module__.rpartition(".")[2]
    pixels = np.random.default_rng(1).integers(0, 256, (1, 4, 4, 3)).astype("float32")
    found = keras.ops.convert_to_numpy(transfer._scaling(family)(pixels / 255))
    assert np.allclose(found, expected(pixels), atol=1e-3)
    own = getattr(keras.applications, family).preprocess_input(pixels.copy())
    turned = found[..., ::-1] if family in transfer._MEAN_FREE else found
    assert np.allclose(turned, own, atol=1e-3)


def test_channels_are_turned_where_a_network_learned_them_the_other_way():
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Conv2D(2, 3)])
    x = np.random.default_rng(2).normal(size=(1, 4, 4, 3)).astype("float32")
    before = model.predict(x[..., ::-1], verbose=0)
    transfer._turn_channels(model)
    assert np.allclose(model.predict(x, verbose=0), before, atol=1e-6)


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        ({"transfer": "yes"}, {}, "expected true or false"),
        ({"transfer": True}, {"input_shape": (8,)}, "expected images of one or three channels"),
        ({"transfer": True}, {"classes": None}, "expected data with classes"),
        ({"transfer": True, "alhpa": 1}, {}, "did you mean 'alpha'"),
    ],
)
def test_what_no_network_can_be_built_for(arguments, options, message):
    options = {"input_shape": (32, 32, 3), "classes": 3, **options}
    with pytest.raises(ModelError, match=message):
        ls.models.load("applications:MobileNetV2", arguments, **options)


WRONG = [
    (["--preset", "tuor"], "preset: expected the name of a preset, received 'tuor'; did you mean"),
    (["--data", "digits"], "expected --model and --data together, received --data"),
    (["--model", "builtin:digits", "--preset", "size"], "received --model; name both"),
    (["study.toml", "--epochs", "3"], "a study file, or --model and --data, received study.toml"),
    (["--preset", "size", "--image-size", "12"], "image"),
    (["--preset", "size", "--model", "none.keras", "--data", "digits"], "none.keras"),
]


@pytest.mark.parametrize("arguments, message", WRONG)
def test_what_the_command_refuses(arguments, message, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert run(["study", *arguments, "-o", "out"]) == 2
    error = capfd.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_order_that_breaks_a_promise_is_found_before_training(tmp_path, capfd):
    wrong = '[[variant]]\nname = "wrong"\nrecipe = [{ technique = "cluster", clusters = 4 }, '
    path = write_study(tmp_path, wrong + '{ technique = "prune", sparsity = 0.5 }]\n')
    assert run(["study", str(path), "-o", str(tmp_path / "out")]) == 2
    assert "variant 'wrong': prune after cluster on layer 'conv'" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_of_images_and_a_model_file_are_enough(images, tmp_path, monkeypatch, capfd):
    from litesmith.study import engine

    monkeypatch.chdir(tmp_path)
    few = [
        v for v in presets.variants("tour") if v["name"] in ("int8", "pruned-80-clustered-16-qat")
    ]
    monkeypatch.setitem(presets.PRESETS, "tour", tuple(few))
    short = functools.partial(engine.benchmark, warmup=1, runs=3, repeats=1)
    monkeypatch.setattr(engine, "benchmark", short)
    network().save("model.keras")
    options = ["--preset", "tour", "--model", "model.keras", "--data", f"images:{images}"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LitesmithWarning)
        assert run(["study", *options, "--epochs", "2", "-o", "out"]) == 0
    out = capfd.readouterr().out
    assert "again, or otherwise: edit out/study.toml" in out
    result = json.loads((tmp_path / "out" / "study.json").read_text())
    assert result["command"] == f"litesmith study {' '.join([*options, '--epochs', '2'])} -o out"
    assert [v["status"] for v in result["variants"]] == ["done"] * 3
    assert result["data"]["input_shape"] == [SIDE, SIDE, 1]
    last = result["variants"][-1]
    assert last["unique_weights"] <= 16 and last["sparsity"] == pytest.approx(0.8, abs=0.02)
    for told in ("study.log", "report.html"):
        text = (tmp_path / "out" / told).read_text()
        assert "  cluster " in text and "16 values, " in text
    # The file that was written does the same, from where it lies.
    again = make_plan(Study.load(tmp_path / "out" / "study.toml"))
    assert [job.variant.name for job in again.jobs] == [v["name"] for v in result["variants"]]
    assert again.summary["sha256"] == result["data"]["sha256"]
