"""Quantization after each way of training."""

import keras
import pytest

import litesmith as ls
from litesmith.testing import WAYS, check_training

pytestmark = pytest.mark.every_backend
backend = keras.backend.backend()
HERE = [name for name, way in WAYS.items() if backend in way.backends]


# torch.compile looks at tensors in ways that it hides its own warnings of, if they are no errors.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("way", HERE)
def test_every_way_of_training(way):
    slow = way == "jit_compile" and backend == "torch"  # compiling takes its time
    kinds = ["shared layer"] if slow else ["sequential", "custom layer"]
    check_training(ls.Quantize(), ways=[way], kinds=kinds)


def test_few_bits_in_some_ways():
    check_training(ls.Quantize(weights=4), ways=["fit", "mixed_float16", "ema"])
