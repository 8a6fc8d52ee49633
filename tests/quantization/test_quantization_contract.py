"""The contract of quantization: every kind of model, saved and loaded, stripped, exported."""

import pytest

import litesmith as ls
from litesmith.testing import check_technique

pytestmark = pytest.mark.every_backend

# Kinds that are simulated throughout, so that the integer file is the simulation's.
FAITHFUL = ["sequential", "functional", "nested", "subclassed", "shared layer", "convolutions"]
# Kinds with tensors inside layers that nobody follows: only what does not depend on them.
PARTLY = ["operators", "custom layer", "recurrent", "attention"]


def test_the_contract_where_all_is_simulated():
    check_technique(ls.Quantize(), kinds=FAITHFUL)


def test_the_contract_where_some_is_not():
    check_technique(ls.Quantize(), kinds=PARTLY)


@pytest.mark.parametrize(
    "technique, kinds",
    [
        (ls.Quantize(weights=4), ["functional", "shared layer"]),
        (ls.Quantize(weights=2), ["sequential"]),
        (ls.Quantize(weights=4, activations=None), ["sequential", "attention"]),
        (ls.Quantize(activations=16), ["sequential"]),
        ([ls.Prune(sparsity=0.5), ls.Quantize()], ["sequential", "nested"]),
        ([ls.Cluster(clusters=4), ls.Quantize()], ["sequential", "functional"]),
    ],
    ids=["four", "two", "weights only", "sixteen", "after pruning", "after clustering"],
)
def test_the_contract_for_each_form(technique, kinds):
    check_technique(technique, kinds=kinds, fresh_process=False)
