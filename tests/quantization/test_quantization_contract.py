"""The contract of quantization: every kind of model, saved and loaded, stripped, exported."""

import pytest

import litesmith as ls
from litesmith.testing import KINDS, check_technique

pytestmark = pytest.mark.every_backend


# Unrolled and rounded step by step, recurrent layers take minutes to compile in all the ways of the
# contract: here their weights alone, and test_quantization_inside.py the whole of a smaller one.
EVERY = [name for name in KINDS if name != "recurrent"]


def test_the_contract_on_every_kind_of_model():
    check_technique(ls.Quantize(), kinds=EVERY)


@pytest.mark.parametrize(
    "technique, kinds",
    [
        (ls.Quantize(weights=4), ["shared layer"]),
        (ls.Quantize(weights=2), ["sequential"]),
        (ls.Quantize(weights=4, activations=None), ["attention"]),
        (ls.Quantize(activations=None), ["recurrent"]),
        (ls.Quantize(activations=16), ["sequential"]),
        (ls.Quantize(weights=4, ranges="learned"), ["functional"]),
        ([ls.Prune(sparsity=0.5), ls.Quantize()], ["nested"]),
        ([ls.Cluster(clusters=4), ls.Quantize()], ["functional"]),
    ],
    ids=[
        "four",
        "two",
        "weights only",
        "recurrent",
        "sixteen",
        "learned",
        "after pruning",
        "after clustering",
    ],
)
def test_the_contract_for_each_form(technique, kinds):
    check_technique(technique, kinds=kinds, fresh_process=False)
