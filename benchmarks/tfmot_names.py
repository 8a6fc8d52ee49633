"""The public names of tfmot 0.8.1: which of them litesmith.tfmot has, and what tests each.

    python benchmarks/tfmot_names.py

Prints a table of symbol, supported, test, and exits 1 where a name is missing, has another
signature than tfmot's, or its test is not there. "raises" is a name whose use is refused at once,
with what to use instead; "accepted" one that is not needed.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
TESTS = Path(__file__).parent.parent / "tests" / "tfmot"
S, C, Q = "test_tfmot_sparsity.py", "test_tfmot_clustering.py", "test_tfmot_quantization.py"

# Symbol: supported, the test (file, function), and the parameters that tfmot 0.8.1 has, "=" where
# there is a default; None where it is a class whose constructor takes none of its own.
NAMES: dict[str, tuple[str, tuple[str, str], str | None]] = {
    "sparsity.keras.prune_low_magnitude": (
        "yes",
        (S, "test_prune_low_magnitude_of_a_model"),
        "to_prune pruning_schedule= block_size= block_pooling_type= pruning_policy= "
        "sparsity_m_by_n= **kwargs",
    ),
    "sparsity.keras.prune_scope": ("yes", (S, "test_a_pruned_model_is_saved_and_goes_on"), ""),
    "sparsity.keras.strip_pruning": (
        "yes",
        (S, "test_strip_pruning_copies_a_model_that_was_not_pruned"),
        "model",
    ),
    "sparsity.keras.UpdatePruningStep": (
        "accepted",
        (S, "test_update_pruning_step_is_accepted_and_not_needed"),
        None,
    ),
    "sparsity.keras.PruningSummaries": (
        "yes",
        (S, "test_pruning_summaries"),
        "log_dir update_freq= **kwargs",
    ),
    "sparsity.keras.PruningSchedule": ("yes", (S, "test_a_schedule_of_ones_own"), None),
    "sparsity.keras.ConstantSparsity": (
        "yes",
        (S, "test_constant_sparsity"),
        "target_sparsity begin_step end_step= frequency=",
    ),
    "sparsity.keras.PolynomialDecay": (
        "yes",
        (S, "test_polynomial_decay"),
        "initial_sparsity final_sparsity begin_step end_step power= frequency=",
    ),
    "sparsity.keras.PrunableLayer": (
        "yes",
        (S, "test_a_prunable_layer_says_what_is_pruned"),
        None,
    ),
    "sparsity.keras.PruningPolicy": ("yes", (S, "test_a_pruning_policy_of_ones_own"), None),
    "sparsity.keras.PruneForLatencyOnXNNPack": (
        "yes",
        (S, "test_prune_for_latency_on_xnnpack"),
        None,
    ),
    "clustering.keras.cluster_weights": (
        "yes",
        (C, "test_cluster_weights_of_a_model"),
        "to_cluster number_of_clusters cluster_centroids_init= **kwargs",
    ),
    "clustering.keras.cluster_scope": (
        "yes",
        (C, "test_a_clustered_model_is_saved_and_goes_on"),
        "",
    ),
    "clustering.keras.strip_clustering": ("yes", (C, "test_cluster_weights_of_a_model"), "model"),
    "clustering.keras.CentroidInitialization": ("yes", (C, "test_centroid_initialization"), None),
    "clustering.keras.ClusterableLayer": (
        "yes",
        (C, "test_a_clusterable_layer_says_what_is_clustered"),
        None,
    ),
    "clustering.keras.clusterable_layer.ClusterableLayer": (
        "yes",
        (C, "test_a_clusterable_layer_says_what_is_clustered"),
        None,
    ),
    "clustering.keras.ClusteringAlgorithm": (
        "yes",
        (C, "test_clustering_algorithm"),
        "clusters_centroids cluster_gradient_aggregation= data_format=",
    ),
    "clustering.keras.ClusteringSummaries": (
        "yes",
        (C, "test_clustering_summaries"),
        "log_dir= cluster_update_freq= **kwargs",
    ),
    "clustering.keras.experimental.cluster_weights": (
        "yes",
        (C, "test_experimental_cluster_weights"),
        "to_cluster number_of_clusters cluster_centroids_init= preserve_sparsity= "
        "cluster_per_channel= **kwargs",
    ),
    "quantization.keras.quantize_model": (
        "yes",
        (Q, "test_quantize_model"),
        "to_quantize quantized_layer_name_prefix=",
    ),
    "quantization.keras.quantize_annotate_layer": (
        "yes",
        (Q, "test_annotated_layers_and_no_others"),
        "to_annotate quantize_config=",
    ),
    "quantization.keras.quantize_annotate_model": (
        "yes",
        (Q, "test_quantize_config_and_annotate_model"),
        "to_annotate",
    ),
    "quantization.keras.quantize_apply": (
        "yes",
        (Q, "test_quantize_apply_refuses_what_it_cannot_take"),
        "model scheme= quantized_layer_name_prefix=",
    ),
    "quantization.keras.quantize_scope": (
        "yes",
        (Q, "test_a_quantized_model_is_saved_and_converts"),
        "*args",
    ),
    "quantization.keras.QuantizeConfig": (
        "yes",
        (Q, "test_quantize_config_and_annotate_model"),
        None,
    ),
    "quantization.keras.QuantizeWrapper": (
        "yes: isinstance",
        (Q, "test_quantize_wrapper_tells_what_is_quantized"),
        None,
    ),
    "quantization.keras.QuantizeWrapperV2": (
        "yes: isinstance",
        (Q, "test_quantize_wrapper_tells_what_is_quantized"),
        None,
    ),
    "quantization.keras.QuantizeScheme": ("yes", (Q, "test_a_scheme_of_ones_own"), None),
    "quantization.keras.QuantizeRegistry": ("yes", (Q, "test_a_scheme_of_ones_own"), None),
    "quantization.keras.QuantizeLayoutTransform": (
        "yes: ours only",
        (Q, "test_a_scheme_of_ones_own"),
        None,
    ),
    "quantization.keras.fix_input_output_range": (
        "raises",
        (Q, "test_what_is_not_supported_says_what_to_use"),
        "model num_bits= input_min= input_max= output_min= output_max= narrow_range=",
    ),
    "quantization.keras.remove_input_range": (
        "raises",
        (Q, "test_what_is_not_supported_says_what_to_use"),
        "model",
    ),
    "quantization.keras.quantizers.Quantizer": (
        "yes",
        (Q, "test_the_fixed_quantizer_and_one_of_ones_own"),
        None,
    ),
    "quantization.keras.quantizers.FixedQuantizer": (
        "yes",
        (Q, "test_the_fixed_quantizer_and_one_of_ones_own"),
        "num_bits init_min init_max narrow_range",
    ),
    "quantization.keras.collab_opts.Default8BitPrunePreserveQuantizeScheme": (
        "yes",
        (Q, "test_prune_preserving_scheme"),
        "disable_per_axis=",
    ),
    "experimental.combine.Default8BitPrunePreserveQuantizeScheme": (
        "yes",
        (Q, "test_prune_preserving_scheme"),
        "disable_per_axis=",
    ),
    "experimental.combine.Default8BitClusterPreserveQuantizeScheme": (
        "yes",
        (Q, "test_cluster_preserving_scheme_and_its_strip"),
        "preserve_sparsity=",
    ),
    "experimental.combine.strip_clustering_cqat": (
        "yes",
        (Q, "test_cluster_preserving_scheme_and_its_strip"),
        "to_strip",
    ),
}
for _name in ("LastValueQuantizer", "MovingAverageQuantizer", "AllValuesQuantizer"):
    NAMES[f"quantization.keras.quantizers.{_name}"] = (
        "yes",
        (Q, "test_quantizers_follow_what_comes_by"),
        "num_bits per_axis symmetric narrow_range",
    )
for _name, _parameters in {
    "Scheme": "disable_per_axis=",
    "Registry": "disable_per_axis=",
    "LayoutTransform": None,
}.items():
    NAMES[f"quantization.keras.default_8bit.Default8BitQuantize{_name}"] = (
        "yes",
        (Q, "test_schemes_and_registries"),
        _parameters,
    )
for _name, _first in {"Scheme": True, "Registry": True, "LayoutTransform": False}.items():
    NAMES[f"quantization.keras.experimental.default_n_bit.DefaultNBitQuantize{_name}"] = (
        "yes",
        (Q, "test_n_bit_schemes"),
        "disable_per_axis= " * _first + "num_bits_weight= num_bits_activation=",
    )
_TRANSFORMS = """
    ConcatTransform ConcatTransform3Inputs ConcatTransform4Inputs ConcatTransform5Inputs
    ConcatTransform6Inputs Conv2DBatchNormActivationQuantize Conv2DBatchNormQuantize
    Conv2DBatchNormReLUQuantize Conv2DReshapeBatchNormActivationQuantize
    Conv2DReshapeBatchNormQuantize Conv2DReshapeBatchNormReLUQuantize InputLayerQuantize
    LayerReLUQuantize LayerReluActivationQuantize SeparableConv1DQuantize SeparableConvQuantize
""".split()
_REWRITING = {
    "default_8bit.default_8bit_transforms": _TRANSFORMS,
    "experimental.default_n_bit.default_n_bit_transforms": _TRANSFORMS,
    "graph_transformations.model_transformer": ["ModelTransformer"],
    "graph_transformations.transforms": ["LayerNode", "LayerPattern", "Transform"],
}
for _room, _names in _REWRITING.items():
    for _name in _names:
        NAMES[f"quantization.keras.{_room}.{_name}"] = (
            "raises",
            (Q, "test_what_is_not_supported_says_what_to_use"),
            None,
        )


def find(symbol: str) -> Any:
    """What stands under a name in litesmith.tfmot; both as an attribute and as an import."""
    value: Any = importlib.import_module("litesmith.tfmot")
    for part in symbol.split("."):
        value = getattr(value, part)
    room, _, name = f"litesmith.tfmot.{symbol}".rpartition(".")
    if "clusterable_layer" not in room and getattr(importlib.import_module(room), name) != value:
        raise AttributeError(f"{room} has another {name}")
    return value


def parameters(value: Any) -> str:
    """A signature as in `NAMES`."""
    marks = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return " ".join(
        marks.get(each.kind, "") + name + ("" if each.default is inspect.Parameter.empty else "=")
        for name, each in inspect.signature(value).parameters.items()
    )


def problems() -> dict[str, str]:
    """What is wrong, by symbol."""
    found = {}
    for symbol, (_, (file, test), expected) in NAMES.items():
        try:
            value = find(symbol)
        except (AttributeError, ImportError) as error:
            found[symbol] = f"missing: {error}"
            continue
        path = TESTS / file
        if not path.exists() or not re.search(rf"^def {test}\(", path.read_text(), re.MULTILINE):
            found[symbol] = f"no test {test} in {file}"
        elif expected is not None and parameters(value) != expected.strip():
            found[symbol] = f"takes {parameters(value)!r}, tfmot {expected.strip()!r}"
    return found


def main() -> int:
    """Print the table."""
    wrong = problems()
    width = max(map(len, NAMES))
    print(f"{'symbol':{width}}  {'supported':15}  test")
    for symbol, (supported, (file, test), _) in NAMES.items():
        print(f"{symbol:{width}}  {wrong.get(symbol, supported):15}  tests/tfmot/{file}::{test}")
    counts: dict[str, int] = {}
    for symbol, (supported, _, _) in NAMES.items():
        kind = "missing" if symbol in wrong else supported.partition(":")[0]
        counts[kind] = counts.get(kind, 0) + 1
    print(f"{len(NAMES)} names: " + ", ".join(f"{n} {kind}" for kind, n in counts.items()))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
