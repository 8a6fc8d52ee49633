"""The contract of pruning: every kind of model, saved and loaded, stripped, exported.

Apart from the other tests because it takes minutes, so that it can run beside them.
"""

import pytest

import litesmith as ls
from litesmith.testing import check_technique

pytestmark = pytest.mark.every_backend


def test_the_contract_on_every_kind_of_model():
    schedule = ls.PolynomialDecay(end_step=8, frequency=2)
    check_technique(ls.Prune(sparsity=0.8, schedule=schedule))


@pytest.mark.parametrize(
    "technique, kinds",
    [
        (
            ls.Prune(granularity=ls.NOfM(2, 4), schedule=ls.CosineDecay(end_step=6, frequency=2)),
            ["functional", "attention"],
        ),
        (ls.Prune(sparsity=0.5, granularity=ls.PerBlock(4), ranking="global"), ["convolutions"]),
        (
            ls.Prune(sparsity=0.5, granularity=ls.PerChannel(), gradient="dense", where=".*"),
            ["functional"],
        ),
    ],
    ids=["2:4", "blocks, global", "channels, dense gradient, everything asked"],
)
def test_the_contract_for_each_granularity(technique, kinds):
    check_technique(technique, kinds=kinds, fresh_process=False)


def test_a_broken_technique_does_not_pass():
    class TooFew(ls.Prune):
        """Reports one zero more than it gives."""

        def plan(self, kernels):
            plans = super().plan(kernels)
            for plan in plans:
                plan.detail["zeros"] += 1
            return plans

    with pytest.raises(AssertionError, match="zeros where .* were asked"):
        check_technique(
            TooFew(sparsity=0.5), kinds=["shared layer"], export=False, fresh_process=False
        )
