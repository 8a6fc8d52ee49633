"""The contract of clustering: every kind of model, saved and loaded, stripped, exported."""

import pytest

import litesmith as ls
from litesmith.testing import check_technique

pytestmark = pytest.mark.every_backend


def test_the_contract_on_every_kind_of_model():
    check_technique(ls.Cluster(clusters=4))


@pytest.mark.parametrize(
    "technique, kinds",
    [
        (ls.Cluster(clusters=3, granularity=ls.PerChannel(), where=".*"), ["functional"]),
        (ls.Cluster(clusters=3, granularity=ls.PerChannelGroup(3), frequency=4), ["sequential"]),
        ([ls.Prune(sparsity=0.5), ls.Cluster(clusters=4)], ["sequential", "custom layer"]),
        (ls.Cluster(clusters=4, assignment="fixed", preserve_zeros=True), ["subclassed"]),
    ],
    ids=["channels", "groups", "after pruning", "fixed, a zero"],
)
def test_the_contract_for_each_form(technique, kinds):
    check_technique(technique, kinds=kinds, fresh_process=False)
