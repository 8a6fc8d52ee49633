"""All public names of tfmot 0.8.1 are there, with its signatures, and each has a test."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import litesmith as ls

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "tfmot_names.py"


def names():
    spec = importlib.util.spec_from_file_location("tfmot_names", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_name_is_there_with_its_signature_and_a_test(monkeypatch, capsys):
    table = names()
    assert table.problems() == {}
    assert table.main() == 0
    monkeypatch.setitem(table.NAMES, "sparsity.keras.no_such", ("yes", ("x.py", "y"), ""))
    monkeypatch.setitem(
        table.NAMES, "sparsity.keras.strip_pruning", ("yes", (table.S, "test_nothing"), "model")
    )
    monkeypatch.setitem(
        table.NAMES, "sparsity.keras.prune_scope", ("yes", (table.S, "test_polynomial_decay"), "x")
    )
    assert set(table.problems()) == {
        "sparsity.keras.no_such",
        "sparsity.keras.strip_pruning",
        "sparsity.keras.prune_scope",
    }
    assert table.main() == 1
    assert "missing" in capsys.readouterr().out


def test_tfmot_is_imported_when_it_is_asked_for():
    code = "import sys, litesmith; print('litesmith.tfmot' in sys.modules, 'keras' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"
    from litesmith import tfmot

    assert ls.tfmot is tfmot
    from litesmith.tfmot.sparsity import keras as sparsity

    assert sparsity.prune_low_magnitude is tfmot.sparsity.keras.prune_low_magnitude
