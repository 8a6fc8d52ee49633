"""The math of grids and ranges, against numbers worked out by hand or another way."""

import numpy as np
import pytest
from keras import ops

from litesmith.quantization import core

to_numpy = ops.convert_to_numpy


@pytest.mark.parametrize("bits, end", [(8, 127), (6, 31), (4, 7), (3, 3), (2, 1)])
def test_a_grid_is_symmetric_and_narrow(bits, end):
    assert core.limit(bits) == end
    weight = np.random.default_rng(0).normal(size=(3, 3, 4, 5)).astype("float32")
    scale = to_numpy(core.grid_scale(weight, bits, (0, 1, 2)))
    assert scale.shape == (1, 1, 1, 5)
    whole = to_numpy(core.to_grid(weight, scale, bits))
    assert np.array_equal(whole, np.round(whole))
    assert np.array_equal(np.abs(whole).max(axis=(0, 1, 2)), np.full(5, end))
    assert np.abs(whole * scale - weight).max() <= scale.max() / 2 + 1e-6


def test_a_scale_that_clips_is_better_with_few_bits():
    weight = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")

    def error(scale, bits):
        scale = to_numpy(scale)
        used = to_numpy(core.to_grid(weight, scale, bits)) * scale
        return np.square(used - weight).sum(axis=0)

    for bits in (2, 3, 4):
        best = error(core.best_scale(weight, bits, (0,)), bits)
        whole = error(core.grid_scale(weight, bits, (0,)), bits)
        assert (best <= whole + 1e-6).all()
        assert best.sum() < (0.6 if bits == 2 else 0.97) * whole.sum()
        # No scale of a fine search is better by more than its steps allow.
        shares = np.linspace(0.2, 1.3, 400)
        tried = [error(core.grid_scale(weight, bits, (0,)) * share, bits) for share in shares]
        finest = np.min(tried, axis=0)
        assert best.sum() <= 1.03 * finest.sum()


def test_what_is_not_zero_can_be_kept_from_becoming_zero():
    weight = np.array([[0.0, 1e-3, -1e-3, 1.0]], "float32").T
    scale = core.grid_scale(weight, 4, (0,))
    assert to_numpy(core.to_grid(weight, scale, 4)).ravel().tolist() == [0, 0, 0, 7]
    assert to_numpy(core.to_grid(weight, scale, 4, keep=True)).ravel().tolist() == [0, 1, -1, 7]


@pytest.mark.parametrize("low, high", [(-1.0, 3.0), (0.0, 5.5), (0.3, 2.0), (-4.0, -1.0), (-3, 3)])
@pytest.mark.parametrize("bits", [8, 16])
def test_parameters_are_those_of_the_quantizer(low, high, bits):
    from litert_quantizer import qtyping
    from litert_quantizer.algorithms.uniform_quantize import uniform_quantize_tensor as theirs

    ours = core.parameters(np.float32(low), np.float32(high), bits)
    scale, zero = (float(to_numpy(each)) for each in ours)
    # It divides by 255, which is a bit off: of the ends it is given it makes exactly ours.
    ends = [np.array([end]) for end in core.ends_of_grid(low, high, bits)]
    zero_point, wanted = theirs.tensor_zp_scale_from_min_max(
        *ends, bits, bits == 16, qtyping.QuantGranularity.TENSORWISE
    )
    assert scale == float(np.float32(wanted[0])) and zero == int(zero_point[0])
    assert scale == pytest.approx(float(np.ptp([low, high, 0.0])) / 255, rel=1e-6) or bits == 16


def test_fake_quantization_rounds_to_even_and_clips():
    value = np.array([-10.0, 0.0, 0.05, 0.15, 0.25, 99.0], "float32")
    found = to_numpy(core.fake_quantize(value, np.float32(0.1), np.float32(-128), 8))
    assert np.allclose(found, [0.0, 0.0, 0.0, 0.2, 0.2, 25.5], atol=1e-6)


def gemmlowp(accumulator, multiplier):
    """LiteRT's fixed-point multiplication, in whole numbers."""
    fraction, exponent = np.frexp(multiplier)
    fixed = int(round(float(fraction) * 2**31))
    product = accumulator.astype(np.int64) * fixed
    nudge = np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    high = np.sign(product + nudge) * (np.abs(product + nudge) >> 31)
    right = max(-int(exponent), 0)
    mask = (1 << right) - 1
    threshold = (mask >> 1) + (high < 0)
    return (high >> right) + ((high & mask) > threshold)


@pytest.mark.parametrize("multiplier", [0.37, 0.011, 0.0007, 0.5, 0.25])
def test_rounding_twice_is_what_int4_convolutions_do(multiplier):
    accumulator = np.random.default_rng(1).integers(-20000, 20000, 4000)
    accumulator = accumulator[np.abs(accumulator * multiplier) < 200]
    value = (accumulator * np.float32(multiplier)).astype("float32")
    found = to_numpy(core.round_twice(value, np.float32(multiplier)))
    wanted = gemmlowp(accumulator, multiplier)
    once = np.round(accumulator * multiplier)
    assert np.mean(found != wanted) <= 0.001
    if multiplier == 0.37:
        assert np.mean(once != wanted) > 0.001  # it does matter


def test_a_bias_is_a_multiple_of_its_scale():
    bias = np.array([0.1234, -5.0], "float32")
    scale = np.array([0.01, 0.002], "float32")
    found = to_numpy(core.on_grid(bias, scale))
    assert np.allclose(found / scale, np.round(found / scale), atol=1e-3)
    assert (np.abs(found - bias) <= scale / 2 + 1e-6).all()


def kernel_of_hard_swish(whole, given, wanted):
    """LiteRT's kernel for int8, a number at a time, in Python's whole numbers."""

    def high(a, b):
        nudge = 2**14 if a * b >= 0 else 1 - 2**14
        return int((a * b + nudge) / 2**15)

    def shifted(value, bits):
        mask = (1 << bits) - 1
        return (value >> bits) + ((value & mask) > (mask >> 1) + (value < 0))

    def fixed(number):
        share, exponent = np.frexp(float(number))
        return min(32767, (int(round(share * 2**31)) + 2**15) >> 16), int(exponent)

    def left(value, bits):
        return max(-32768, min(32767, value << bits))

    fine = np.float32(1 / 128) * np.float32(given)
    factor, power = fixed(fine / np.float32(wanted))
    slope, shift = fixed(fine / np.float32(3 / 32768))
    found = []
    for number in whole:
        value = int(number) * 128
        share = high(left(value, shift - 1) if shift > 0 else value, slope)
        share = left(share, 1) if shift > 0 else shifted(share, -shift)
        share = (share + 2**15) >> 1
        product = int(share * high(value, factor) / 2**15)
        found.append(shifted(product, -power) if power <= 0 else product << power)
    return np.array(found)


@pytest.mark.parametrize(
    "given, wanted", [(0.02, 0.011), (0.2, 0.19), (0.0471, 0.0236), (0.3, 0.02)]
)
def test_hard_swish_is_what_the_kernel_gives(given, wanted):
    from litesmith.quantization.hard_swish import hard_swish

    whole = np.arange(-255, 256).astype("float32")
    found = to_numpy(hard_swish(whole, np.float32(given), np.float32(wanted)))
    assert np.array_equal(found, kernel_of_hard_swish(whole, given, wanted))
    exact = whole * given * np.clip(whole * given + 3, 0, 6) / 6 / wanted
    assert np.abs(found - exact).max() <= 1.5
