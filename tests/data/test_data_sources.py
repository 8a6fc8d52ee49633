import gzip
import struct
import sys
import types

import numpy as np
import pytest
from PIL import Image

from litesmith.data import Dataset, LazyArray, Split, load
from litesmith.errors import DataError

RANDOM = np.random.default_rng(0)


def idx(path, array, code=8):
    content = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content += array.astype(array.dtype.newbyteorder(">")).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture
def mnist(tmp_path):
    for name, count in (("train", 60), ("t10k", 20)):
        images = RANDOM.integers(0, 256, (count, 5, 4), np.uint8)
        images[0] = 255
        suffix = ".gz" if name == "train" else ""
        idx(tmp_path / f"{name}-images-idx3-ubyte{suffix}", images)
        idx(tmp_path / f"{name}-labels-idx1-ubyte{suffix}", np.arange(count, dtype=np.uint8) % 3)
    return tmp_path


@pytest.fixture
def pictures(tmp_path):
    for split, count in (("train", 12), ("val", 4), ("test", 5)):
        for label, name in enumerate(("cat", "dog")):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                image = np.full((10, 8, 3), 40 * label + index, np.uint8)
                Image.fromarray(image).save(folder / f"{index}.png")
    return tmp_path


def test_digits_are_the_same_whatever_the_seed():
    one, other = load("digits", seed=0), load("digits", seed=5, validation=0.5)
    assert one.summary() == other.summary()
    assert one.train.x.shape == (1258, 8, 8, 1) and one.train.x.dtype == np.float32
    assert one.train.x.min() == 0 and one.train.x.max() == 1
    assert np.ptp(np.bincount(one.test.y)) <= 2 and np.ptp(np.bincount(one.validation.y)) <= 2


def test_idx_plain_and_gz(mnist):
    data = load(f"idx:{mnist}", validation=0.2)
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 48,
        "validation": 12,
        "test": 20,
    }
    assert data.input_shape == (5, 4, 1) and data.train.x.dtype == np.float32
    assert data.test.x.max() == 1 and data.num_classes == 3
    assert load("idx:.", root=mnist).num_classes == 3


def test_idx_of_other_types(tmp_path):
    from litesmith.data.idx import read_idx

    for code, dtype in ((9, "i1"), (11, "i2"), (12, "i4"), (13, "f4"), (14, "f8")):
        values = np.arange(-3, 3).astype(dtype).reshape(2, 3)
        idx(tmp_path / "x", values, code)
        np.testing.assert_array_equal(read_idx(tmp_path / "x"), values)


def test_paths_that_are_not_below_the_root_are_looked_for_here(mnist, tmp_path, monkeypatch):
    monkeypatch.chdir(mnist.parent)
    other = tmp_path / "studies"
    other.mkdir()
    assert len(load(f"idx:{mnist.name}", root=other).test) == 20


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.write_bytes(b""), "received an empty file"),
        (lambda p: p.write_bytes(b"\x01\x02\x03\x04rest"), "an idx file .* received 01 02 03 04"),
        (lambda p: p.write_bytes(b"\0\0\x08\x03\0\0"), "cut short; fetch the file again"),
        (lambda p: p.write_bytes(p.read_bytes()[:-7]), "expected 400 bytes .* received 393"),
        (lambda p: p.unlink(), "t10k-images-idx3-ubyte, plain or .gz, received no such file"),
        (lambda p: idx(p, np.arange(20, dtype=np.uint8)), "samples of one dimension or more"),
    ],
)
def test_damaged_idx(mnist, damage, message):
    damage(mnist / "t10k-images-idx3-ubyte")
    with pytest.raises(DataError, match=message):
        load(f"idx:{mnist}")


def test_damaged_gzip_and_labels(mnist):
    path = mnist / "train-labels-idx1-ubyte.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-6])
    with pytest.raises(DataError, match="cut short; fetch the file again"):
        load(f"idx:{mnist}")
    path.write_bytes(b"no gzip")
    with pytest.raises(DataError, match="expected a gzip file"):
        load(f"idx:{mnist}")
    idx(path, np.ones((60, 2), np.uint8))
    with pytest.raises(DataError, match="one whole number a sample"):
        load(f"idx:{mnist}")
    with pytest.raises(DataError, match="expected a folder, received no such folder"):
        load(f"idx:{mnist}/absent")


def test_npz(tmp_path):
    path = tmp_path / "a.npz"
    x, y = RANDOM.random((30, 6)).astype(np.float16), np.arange(30) % 3
    np.savez_compressed(
        path, x_train=x, y_train=y, x_val=x[:6], y_val=y[:6], x_test=x[:9], y_test=y[:9]
    )
    data = load(f"npz:{path}")
    assert [len(split) for split in data.splits.values()] == [30, 6, 9]
    assert data.train.x.dtype == np.float32 and data.notes == ()
    np.savez(path, x_train_left=x, x_train_right=x, y_train=y)
    data = load(f"npz:{path}")
    assert set(data.train.x) == {"left", "right"} and data.input_shape["left"] == (6,)
    assert len(data.test) == 6 and len(data.validation) == 2 and len(data.notes) == 2


def test_damaged_npz(tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(DataError, match="a .npz file, received no such file"):
        load(f"npz:{path}")
    np.savez(path, x_train=np.array([{"a": 1}]), y_train=np.zeros(1))
    with pytest.raises(DataError, match="pickled objects, which are not loaded"):
        load(f"npz:{path}")
    np.savez(path, inputs=np.zeros(3))
    with pytest.raises(DataError, match="an array x_train, received inputs; name them"):
        load(f"npz:{path}")
    np.savez(path, x_train=np.zeros((3, 1)), y_train=np.zeros(3), y_test=np.zeros(3))
    with pytest.raises(DataError, match="an array x_test"):
        load(f"npz:{path}")
    np.savez(path, x_train=RANDOM.random((300, 9)))
    whole = path.read_bytes()
    for broken in (b"", b"nonsense", whole[:200], whole[:500] + bytes(50) + whole[550:]):
        path.write_bytes(broken)
        with pytest.raises(DataError, match="a whole .npz file of numbers") as error:
            load(f"npz:{path}")
        assert "\n" not in str(error.value)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataError, match="received a single array"):
        load(f"npz:{path}")


def test_images_by_split_are_lazy(pictures):
    data = load(f"images:{pictures}")
    assert data.classes == ("cat", "dog") and data.input_shape == (10, 8, 3)
    assert [len(split) for split in data.splits.values()] == [24, 8, 10]
    assert isinstance(data.train.x, LazyArray) and not isinstance(data.train.x, np.ndarray)
    assert data.train.x[13].shape == (10, 8, 3)
    # files are in the order of their names: 0, 1, 10, 11, 2, …
    np.testing.assert_allclose(data.train.x[np.array([13, 2])][:, 0, 0, 0], [41 / 255, 10 / 255])
    assert data.train.x[5:7].shape == (2, 10, 8, 3) and data.train.x.dtype == np.float32
    assert data.train.y.tolist() == [0] * 12 + [1] * 12
    x, y = data.train.take(4).keras(4)[0]
    assert x.shape == (4, 10, 8, 3) and y.tolist() == [0, 0, 1, 1]


def test_images_without_splits_are_divided_and_resized(pictures):
    data = load(f"images:{pictures / 'train'}", image_size=[5, 6], validation=0.25)
    assert [len(split) for split in data.splits.values()] == [14, 5, 5]
    assert data.input_shape == (5, 6, 3) and data.test.x[:2].shape == (2, 5, 6, 3)
    before = data.summary()["sha256"]
    assert (
        before
        == load(f"images:{pictures / 'train'}", image_size=[5, 6], validation=0.25).summary()[
            "sha256"
        ]
    )
    other = load(f"images:{pictures / 'train'}", image_size=[6, 6], validation=0.25)
    assert other.summary()["sha256"] != before


def test_grey_images_have_one_channel_and_exif_turns(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for index in range(8):
            image = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
            exif = Image.Exif()
            exif[0x0112] = 6  # turn by 90°
            image.save(tmp_path / name / f"{index}.png", exif=exif)
    data = load(f"images:{tmp_path}", validation=0.2)
    assert data.input_shape == (4, 3, 1)
    assert (data.train.x[0][:, :, 0] * 255).round()[0].tolist() == [8, 4, 0]


def test_images_that_cannot_be_used(pictures, tmp_path):
    with pytest.raises(DataError, match="expected a folder, received no such folder"):
        load(f"images:{tmp_path}/absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="two folders or more, one a class.* received 0"):
        load(f"images:{tmp_path}/empty")
    with pytest.raises(DataError, match=r"image_size: expected \[height, width\] in pixels"):
        load(f"images:{pictures}", image_size=[5])
    path = pictures / "train" / "cat" / "0.png"
    noise = RANDOM.integers(0, 256, (10, 8, 3), np.uint8)
    Image.fromarray(noise).save(path, format="jpeg")
    path.write_bytes(path.read_bytes()[:-30])
    data = load(f"images:{pictures}")
    with pytest.raises(DataError, match="0.png: expected a whole image"):
        data.train.x[0]
    path.write_bytes(b"nonsense")
    with pytest.raises(DataError, match="0.png: expected an image Pillow can open.* 8 bytes"):
        load(f"images:{pictures}")
    path.write_bytes(b"")
    with pytest.raises(DataError, match="received an empty file"):
        load(f"images:{pictures}")
    Image.new("I;16", (8, 10)).save(path)
    with pytest.raises(DataError, match="8 bits a channel, received one of mode I"):
        load(f"images:{pictures}")
    Image.new("RGB", (9, 9)).save(path)
    with pytest.raises(DataError, match=r"one size, or image_size.* 9×9 \(0.png\) and 10×8"):
        load(f"images:{pictures}")
    Image.new("RGB", (8, 10)).save(path)
    (pictures / "test" / "dog").rename(pictures / "test" / "cow")
    with pytest.raises(DataError, match="the classes training has, received the folder 'cow'"):
        load(f"images:{pictures}")


def test_functions(tmp_path):
    (tmp_path / "helper_of_mine.py").write_text("CLASSES = 3\n")
    path = tmp_path / "mine.py"
    path.write_text(
        "import numpy as np\nfrom helper_of_mine import CLASSES\n"
        "from litesmith.data import Dataset, Split\n"
        "def pair(count):\n    return np.ones((count, 2)), np.arange(count) % CLASSES\n"
        "def two(): return pair(30), pair(6)\n"
        "def three(): return pair(30), None, pair(6)\n"
        "def whole(): return Dataset('own', *[Split(*pair(9))] * 3)\n"
        "def nothing(): return None\n"
        "def broken(): return 1 / 0\n"
        "def odd(): return (1, 2, 3), (4, 5)\n"
    )
    assert [len(s) for s in load("mine.py:two", root=tmp_path).splits.values()] == [27, 3, 6]
    assert len(load("mine:three", root=tmp_path).test) == 6
    assert load(f"{path}:whole").name == "own"
    with pytest.raises(DataError, match="a function that returns a Dataset.* received NoneType"):
        load("mine.py:nothing", root=tmp_path)
    with pytest.raises(DataError, match="calling it failed with ZeroDivisionError: division"):
        load("mine.py:broken", root=tmp_path)
    with pytest.raises(DataError, match=r"train: expected a tuple \(x, y\), received tuple"):
        load("mine.py:odd", root=tmp_path)
    with pytest.raises(DataError, match="no function 'tow'; did you mean 'two'?"):
        load("mine.py:tow", root=tmp_path)
    with pytest.raises(DataError, match="the path of a Python file, received no file"):
        load("absent.py:two", root=tmp_path)
    (tmp_path / "bad.py").write_text("def f(:\n")
    with pytest.raises(DataError, match="importing it failed with SyntaxError"):
        load("bad.py:f", root=tmp_path)
    (tmp_path / "needs.py").write_text("import surely_not_installed\n")
    with pytest.raises(DataError, match="failed with ModuleNotFoundError: No module named 'surely"):
        load("needs.py:f", root=tmp_path)
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "expected digits, idx:DIR"),
        (7, "expected digits, idx:DIR"),
        ("builtin:digits", "the bundled data are 'digits'"),
        ("digit", "received digit; did you mean 'digits'?"),
        ("idx:", "expected digits, idx:DIR"),
        ("indx:folder", "did you mean 'idx'?"),
        ("surely_absent:function", "no module named 'surely_absent'"),
        ("surely_absent:not a name", "expected module:function"),
        ("some.npz", "write 'npz:some.npz'"),
        ("some.py", "write 'some.py:FUNCTION'"),
        ("keras:minst", "did you mean 'mnist'?"),
        ("keras:imdb", "a data set of keras.datasets with arrays of numbers"),
    ],
)
def test_unknown_sources_name_what_is_near(source, message):
    with pytest.raises(DataError, match=message) as error:
        load(source)
    assert "\n" not in str(error.value)


def test_a_folder_is_told_how_to_be_named(tmp_path):
    with pytest.raises(DataError, match=r"write 'images:.*' or 'idx:.*'"):
        load(str(tmp_path))


@pytest.mark.parametrize("share", [0, 1, -0.1, "a", True, float("nan")])
def test_validation_is_a_share(share):
    with pytest.raises(DataError, match="validation: expected a share between 0 and 1"):
        load("digits", validation=share)


def test_keras_datasets(monkeypatch):
    import keras

    x, y = RANDOM.integers(0, 256, (40, 4, 4, 3), np.uint8), np.arange(40)[:, None] % 10
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", lambda: ((x, y), (x, y)))
    data = load("keras:cifar10")
    assert data.classes[1] == "automobile" and data.test.y.shape == (40,)
    assert data.train.x.max() <= 1

    def offline():
        raise OSError("no network\nat all")

    monkeypatch.setattr(keras.datasets.mnist, "load_data", offline)
    with pytest.raises(DataError, match=r"could not be downloaded \(no network\); see that"):
        load("keras:mnist")


def test_tfds_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(DataError, match=r'install it with pip install "litesmith\[tfds\]"'):
        load("tfds:mnist")


def fake_tfds(monkeypatch, shape=(6, 6, 1), splits=("train", "test"), pairs=("image", "label")):
    """The few names of TensorFlow Datasets that are used; the real one cannot download here."""
    module = types.ModuleType("tensorflow_datasets")
    image = np.full((6, 6, 1), 51, np.uint8)
    records = [{"image": image, "label": index % 3} for index in range(30)]

    class Image:
        pass

    class ClassLabel:
        names = ["a", "b", "c"]

    image_feature, label_feature = Image(), ClassLabel()
    image_feature.shape = shape
    info = types.SimpleNamespace(
        supervised_keys=pairs,
        full_name="fake/1.0",
        features={"image": image_feature, "label": label_feature},
        splits=splits,
    )
    module.features = types.SimpleNamespace(Image=Image, ClassLabel=ClassLabel)
    module.decode = types.SimpleNamespace(SkipDecoding=object)
    module.builder = lambda name: types.SimpleNamespace(
        info=info,
        download_and_prepare=lambda **options: None,
        as_data_source=lambda split, decoders=None: records,
    )
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)


def test_tfds_reads_by_index(monkeypatch):
    fake_tfds(monkeypatch)
    data = load("tfds:fake", validation=0.2)
    assert data.classes == ("a", "b", "c") and data.input_shape == (6, 6, 1)
    assert [len(split) for split in data.splits.values()] == [24, 6, 30]
    np.testing.assert_allclose(data.train.x[:3], 0.2, atol=1e-6)
    assert load("tfds:fake", image_size=[4, 4]).train.x[0].shape == (4, 4, 1)
    assert len(data.summary()["sha256"]) == 64


def test_tfds_that_cannot_be_used(monkeypatch):
    fake_tfds(monkeypatch, shape=(None, None, 3))
    with pytest.raises(DataError, match=r"samples of one shape.* set image_size"):
        load("tfds:fake")
    fake_tfds(monkeypatch, splits=("all",))
    with pytest.raises(DataError, match="a split named train, received all"):
        load("tfds:fake")
    fake_tfds(monkeypatch, pairs=None)
    with pytest.raises(DataError, match=r"a data set of \(input, label\) pairs"):
        load("tfds:fake")
    sys.modules["tensorflow_datasets"].builder = lambda name: 1 / 0
    with pytest.raises(DataError, match=r"could not be read \(ZeroDivisionError"):
        load("tfds:fake")


def test_what_a_function_returns_is_checked(tmp_path):
    splits = [Split(np.full((3, 1), np.nan), np.zeros(3, int))] * 3
    module = types.ModuleType("made_here")
    module.f = lambda: Dataset("bad", *splits)
    sys.modules["made_here"] = module
    try:
        with pytest.raises(DataError, match="finite numbers, received nan"):
            load("made_here:f")
    finally:
        del sys.modules["made_here"]
