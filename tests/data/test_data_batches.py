import keras
import numpy as np
import pytest

from litesmith.data import Split, batches
from litesmith.errors import DataError

X = np.arange(40, dtype=np.float32).reshape(10, 4)
Y = np.arange(10)


def shapes(data, batch_size=4, **options):
    return [
        (
            {name: one.shape for name, one in x.items()}
            if isinstance(x, dict)
            else [one.shape for one in x]
            if isinstance(x, list)
            else x.shape,
            None if y is None else y.shape,
        )
        for x, y in batches(data, batch_size, **options)
    ]


def test_arrays_are_cut_into_batches_in_order():
    got = list(batches((X, Y), 4))
    assert [len(x) for x, _ in got] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate([x for x, _ in got]), X)
    np.testing.assert_array_equal(np.concatenate([y for _, y in got]), Y)


@pytest.mark.parametrize(
    ("data", "first"),
    [
        (X, ((4, 4), None)),
        ((X,), ((4, 4), None)),
        ((X, None), ((4, 4), None)),
        ((X, Y, np.ones(10)), ((4, 4), (4,))),
        (X.tolist(), ((4, 4), None)),
        ([X, X], ([(4, 4), (4, 4)], None)),
        (([X, X], Y), ([(4, 4), (4, 4)], (4,))),
        (((X, X), Y), ([(4, 4), (4, 4)], (4,))),
        ({"a": X, "b": Y}, ({"a": (4, 4), "b": (4,)}, None)),
        (Split(X, Y), ((4, 4), (4,))),
        (Split({"a": X}, Y), ({"a": (4, 4)}, (4,))),
        (Split(X), ((4, 4), None)),
    ],
)
def test_kinds_of_arrays(data, first):
    assert shapes(data)[0] == first
    assert len(shapes(data)) == 3


@pytest.mark.parametrize(
    ("data", "all_of_them"),
    [
        ((X[i : i + 5] for i in (0, 5)), [((5, 4), None)] * 2),
        (iter([(X, Y)]), [((10, 4), (10,))]),
        (lambda: iter([[X[:1]], [X[1:2]]]), [((1, 4), None)] * 2),
        ([(X[:3], Y[:3]), (X[3:], Y[3:])], [((3, 4), (3,)), ((7, 4), (7,))]),
        ([{"a": X}], [({"a": (10, 4)}, None)]),
        ([((X, X), Y)], [([(10, 4), (10, 4)], (10,))]),
        (iter([X[:0], X]), [((10, 4), None)]),
    ],
)
def test_iterables_keep_their_batches(data, all_of_them):
    assert shapes(data) == all_of_them


def test_a_limit_counts_samples_and_reads_no_further():
    def endless():
        while True:
            yield X, Y

    assert shapes(endless(), limit=13) == [((10, 4), (10,)), ((3, 4), (3,))]
    assert shapes((X, Y), limit=4) == [((4, 4), (4,))]
    assert shapes({"a": X}, limit=5) == [({"a": (4, 4)}, None), ({"a": (1, 4)}, None)]
    assert shapes(X, limit=99)[-1] == ((2, 4), None)

    def fails_after_the_first():
        yield X
        raise AssertionError("read too far")

    assert shapes(fails_after_the_first(), limit=10) == [((10, 4), None)]


@pytest.mark.every_backend
def test_tensors_and_sequences_of_keras():
    tensor = keras.ops.convert_to_tensor(X)
    got = list(batches((tensor, keras.ops.convert_to_tensor(Y)), 8))
    assert type(got[0][0]) is np.ndarray
    np.testing.assert_array_equal(np.concatenate([x for x, _ in got]), X)
    half = keras.ops.cast(tensor, "bfloat16")
    assert next(batches(half))[0].dtype == np.float32

    class Sequence(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return X[4 * index : 4 * index + 4], Y[4 * index : 4 * index + 4]

    assert shapes(Sequence()) == [((4, 4), (4,)), ((4, 4), (4,)), ((2, 4), (2,))]
    assert shapes(Split(X, Y).keras(batch_size=6)) == [((6, 4), (6,)), ((4, 4), (4,))]


def test_tf_data():
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.from_tensor_slices(({"a": X}, Y)).batch(6)
    assert shapes(data) == [({"a": (6, 4)}, (6,)), ({"a": (4, 4)}, (4,))]
    assert shapes(data.repeat(), limit=7)[-1] == ({"a": (1, 4)}, (1,))
    with pytest.raises(DataError, match=r"data that ends, received the tf.data.Dataset repeats"):
        batches(data.repeat())


def test_torch_loader():
    torch = pytest.importorskip("torch")
    pairs = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    loader = torch.utils.data.DataLoader(pairs, batch_size=4)
    assert shapes(loader) == [((4, 4), (4,)), ((4, 4), (4,)), ((2, 4), (2,))]
    assert shapes(torch.from_numpy(X).requires_grad_())[0] == ((4, 4), None)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "expected an array, .* received None"),
        ("digits", "received 'digits'; load a source by its name"),
        (3, "received 3"),
        (object(), "received object"),
        ((X, Y, Y, Y), "a tuple of 4 items"),
        (np.zeros((0, 3)), "expected at least one sample, received none"),
        ([], "expected at least one sample, received none"),
        ({}, "expected at least one array, received none"),
        (iter([]), "expected at least one sample, received none"),
        ((X, Y[:3]), r"as many labels as inputs \(10\), received 3 labels"),
        ([(X, Y[:3])], r"as many labels as inputs \(10\), received 3 labels"),
        ({"a": X, "b": X[:3]}, "same number of samples in every array, received 3 and 10"),
        (np.array(["a"]), "array of numbers, received one of <U1"),
        ([[1, 2], [3]], "array of numbers, received list"),
        (np.float32(3), "a single number; add an axis"),
        (lambda: 3, "a function that returns batches, received int"),
        ([(X, Y, Y, Y)], r"a batch: expected x, or a tuple \(x, y\), received 4 items"),
        (iter([None]), "an array of samples, received NoneType"),
    ],
)
def test_what_is_no_data(data, message):
    with pytest.raises(DataError, match=message):
        list(batches(data))


def test_a_whole_dataset_is_no_split():
    from litesmith.data import load

    with pytest.raises(DataError, match=r"pass its .train, .validation or .test"):
        batches(load("digits"))


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"limit": 0}, {"limit": 1.5}])
def test_counts_are_whole_numbers(options):
    with pytest.raises(DataError, match=f"{next(iter(options))}: expected a whole number from 1"):
        batches(X, **options)
