"""Quantization after each way of training."""

import pytest

import litesmith as ls
from litesmith.testing import check_training

pytestmark = pytest.mark.every_backend


def test_every_way_of_training():
    check_training(ls.Quantize())


def test_few_bits_in_some_ways():
    check_training(ls.Quantize(weights=4), ways=["fit", "mixed_float16", "ema"])
