"""What a study tells of how closely a file does what its training simulated."""

import json
import math

from litesmith import study
from litesmith.quantization.comparing import Fidelity, Tensor
from litesmith.study import fidelity
from tests.study import small

QUANTIZED = (
    '[[variant]]\nname = "quantized"\nquantize = "int8"\n'
    'recipe = [{ technique = "quantize", freeze_batch_norm = 0.5 }]\n'
)


def test_a_variant_that_was_trained_quantized_has_it(tmp_path):
    file = small.write_study(tmp_path, QUANTIZED)
    study.run(file, tmp_path / "out")
    data = json.loads((tmp_path / "out" / "study.json").read_text())
    baseline, variant = data["variants"]
    assert baseline["fidelity"] is None
    found = variant["fidelity"]
    assert found["samples"] == 45 and found["agreement"] == variant["agreement"] == 1.0
    assert found["tensors"] >= 4 and found["first"] is None
    assert found["logits"]["layer"] == "head" and found["logits"]["within"] >= 0.99
    # Freezing was laid out along its 12 steps.
    assert variant["recipe"][0]["freeze_batch_norm"] == 0.5
    for name in ("report.md", "report.html"):
        text = (tmp_path / "out" / name).read_text()
        assert "Fidelity" in text and "first to part" in text


def test_the_worst_come_first_and_equal_ones_not_at_all():
    ratios = [math.inf, 50.0, 20.0, 41.0, 30.0, 60.0, 45.0]
    tensors = tuple(
        Tensor(f"layer_{n}", "out", f"tensor_{n}", ratio, 0.9, 0.99, 3.0)
        for n, ratio in enumerate(ratios)
    )
    found = fidelity.summary(Fidelity(tensors, 10, None, 30.0))
    assert [each.layer for each in found.worst] == [f"layer_{n}" for n in (2, 4, 3, 6, 1)]
    assert found.first == "layer_2" and found.agreement is None and found.tensors == 7
    exact = fidelity.summary(Fidelity(tensors[:1], 10, 1.0, math.inf))
    assert exact.worst == [] and exact.first is None and exact.logits.signal_to_noise is None
