"""`tfmot.sparsity.keras`: pruning."""

from litesmith.tfmot.sparsity.callbacks import PruningSummaries, UpdatePruningStep
from litesmith.tfmot.sparsity.layers import PrunableLayer
from litesmith.tfmot.sparsity.policy import PruneForLatencyOnXNNPack, PruningPolicy
from litesmith.tfmot.sparsity.prune import prune_low_magnitude, prune_scope, strip_pruning
from litesmith.tfmot.sparsity.schedules import ConstantSparsity, PolynomialDecay, PruningSchedule

__all__ = [
    "ConstantSparsity",
    "PolynomialDecay",
    "PrunableLayer",
    "PruneForLatencyOnXNNPack",
    "PruningPolicy",
    "PruningSchedule",
    "PruningSummaries",
    "UpdatePruningStep",
    "prune_low_magnitude",
    "prune_scope",
    "strip_pruning",
]
