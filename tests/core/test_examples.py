"""The examples do their small jobs, as their pages say."""

import functools
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import litesmith as ls

EXAMPLES = Path(__file__).parents[2] / "examples"
DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where all of them write: the second about cats and dogs finds what the first has trained."""
    return tmp_path_factory.mktemp("examples")


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """As Python does for a script: its folder can be imported from. And short measurements."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    short = functools.partial(ls.benchmark, warmup=1)
    monkeypatch.setattr(ls, "benchmark", short, raising=False)
    yield
    for name in ("cats_and_dogs", "cats_and_dogs_training", "cats_and_dogs_post_training"):
        sys.modules.pop(name, None)


def by_name(comparison):
    assert not comparison.failed
    return {one.name: one for one in comparison.variants}


def points_lost(found, name):
    return 100 * (found["baseline"].metrics["accuracy"] - found[name].metrics["accuracy"])


def test_cats_and_dogs_while_training(folder):
    import cats_and_dogs_training

    found = by_name(cats_and_dogs_training.main(["--small", "--output", str(folder / "cats")]))
    assert list(found) == ["baseline", *cats_and_dogs_training.VARIANTS]
    assert found["baseline"].metrics["accuracy"] > 0.93
    assert points_lost(found, "16 clusters") <= 1.0  # the published run lost 28
    assert found["16 clusters"].size.zip < 0.35 * found["baseline"].size.zip
    assert found["pruned dense"].size.zip < found["baseline"].size.zip
    assert found["int8 whole"].size.file < 0.5 * found["baseline"].size.file
    assert all(points_lost(found, name) <= 2.5 for name in found)
    kernels = json.loads((folder / "cats" / "16 clusters.tflite.json").read_text())["kernels"]
    assert max(one["unique"] for one in kernels if "depthwise" not in one["layer"]) <= 16
    assert (folder / "cats" / "training.html").stat().st_size > 10_000
    assert (folder / "cats" / "training.png").read_bytes().startswith(b"\x89PNG")


def test_cats_and_dogs_after_training(folder):
    import cats_and_dogs_post_training

    made = ["--small", "--output", str(folder / "cats")]
    before = (folder / "cats" / "baseline.keras").stat().st_mtime_ns
    found = by_name(cats_and_dogs_post_training.main(made))
    assert (folder / "cats" / "baseline.keras").stat().st_mtime_ns == before  # not trained again
    assert list(found) == ["baseline", "float16", "dynamic", "full integer"]
    assert points_lost(found, "float16") == pytest.approx(0, abs=0.3)
    assert points_lost(found, "dynamic") <= 1 and points_lost(found, "full integer") <= 3
    manifest = json.loads((folder / "cats" / "full integer.tflite.json").read_text())
    assert [port["dtype"] for port in manifest["inputs"] + manifest["outputs"]] == ["uint8"] * 2
    assert manifest["calibration"]["samples"] == 100
    assert (folder / "cats" / "post-training.png").exists()


def test_face_masks(folder):
    import face_mask_resnet50

    found = by_name(face_mask_resnet50.main(["--small", "--output", str(folder / "masks")]))
    assert found["baseline"].metrics["accuracy"] > 0.9
    assert abs(points_lost(found, "dynamic")) <= 1
    assert found["dynamic"].size.file < 0.5 * found["baseline"].size.file
    assert len(list((folder / "masks" / "faces").glob("*/*.png"))) == 500


def test_keyword_spotting(folder, capsys):
    import keyword_spotting

    found = by_name(keyword_spotting.main(["--small", "--output", str(folder / "words")]))
    names = ["float32", "int8 post-training", "int8 trained", "int4 trained"]
    assert list(found) == names
    accuracy = [found[name].metrics["accuracy"] for name in names]
    assert accuracy[0] > 0.6 and min(accuracy[1:3]) > accuracy[0] - 0.04
    assert accuracy[3] > accuracy[0] - 0.12
    arena = [found[name].memory.arena for name in names]
    assert max(arena[1:]) < 0.4 * arena[0]
    assert found["int4 trained"].size.file < found["int8 trained"].size.file
    header = (folder / "words" / "keyword_model.h").read_text()
    content = (folder / "words" / "int4 trained.tflite").read_bytes()
    numbers = header.split("{")[1].split("}")[0].replace(",", " ").split()
    assert bytes(int(number, 16) for number in numbers) == content
    assert f"keyword_model_len = {len(content)};" in header
    assert "DS-CNN" in (DOCS / "walkthroughs" / "keyword-spotting.md").read_text()


def test_the_stand_ins_are_made_where_there_are_no_data(capsys, tmp_path):
    import keyword_spotting

    words = keyword_spotting.few_words(tmp_path / "none.npz")
    assert "made-up sounds" in capsys.readouterr().out
    assert words.train.x.shape == (1200, 49, 10, 1) and words.num_classes == 10
    assert np.bincount(words.test.y).tolist() == [40] * 10


def test_the_full_jobs_can_be_built(monkeypatch, tmp_path):
    """Without the download: ImageNet's weights are random ones here, the photographs few."""
    import cats_and_dogs
    import face_mask_resnet50
    import keras

    from litesmith import data

    for name in ("EfficientNetB0", "ResNet50"):
        original = getattr(keras.applications, name)

        def random(*, weights, make=original, **options):
            assert weights == "imagenet"
            return make(weights=None, **options)

        monkeypatch.setattr(keras.applications, name, random)
    job = cats_and_dogs.full(tmp_path)
    model = cats_and_dogs.network(job)
    assert model.input_shape == (None, 224, 224, 3) and model.output_shape == (None, 2)
    assert model.count_params() == 4_049_571 + 655_872 + 2_048 + 32_832 + 130
    masks = face_mask_resnet50.network()
    assert masks.input_shape == (None, 224, 224, 3) and masks.output_shape == (None, 2)
    assert masks.count_params() == 23_587_712 + 2 * 2_048 + 2

    def photographs(source, *, image_size, validation):
        assert (source, image_size) == ("tfds:cats_vs_dogs", (224, 224))
        y = np.arange(1000) % 2
        whole = data.Split(np.zeros((1000, 2, 2, 3), np.float32), y)
        from litesmith.data.splitting import complete

        return complete(source, whole, None, None, share=validation, seed=0)

    monkeypatch.setattr(data, "load", photographs)
    sizes = {name: len(split) for name, split in cats_and_dogs.load(job).splits.items()}
    assert sizes == {"train": 700, "validation": 200, "test": 100}


def test_each_example_has_its_page():
    pages = {page.name: page.read_text("utf-8") for page in (DOCS / "walkthroughs").glob("*.md")}
    for script in EXAMPLES.glob("*.py"):
        if script.stem in ("quickstart", "cats_and_dogs"):
            continue
        page = script.stem.replace("_", "-") + ".md"
        assert f"python examples/{script.name}" in pages[page]
        assert f"docs/walkthroughs/{page}" in script.read_text("utf-8")
