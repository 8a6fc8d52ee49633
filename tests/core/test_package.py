"""The package itself: names, laziness, files, child processes."""

import ast
import hashlib
import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import litesmith as ls
from litesmith import errors, files
from litesmith.children import Child, kept
from litesmith.errors import ChildError, RecipeError

SOURCE = Path(ls.__file__).parent


def test_every_public_name_is_there():
    for name in ls.__all__:
        assert getattr(ls, name) is not None
    typed = next(
        node
        for node in ast.parse((SOURCE / "__init__.py").read_text()).body
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
    )
    seen = {
        alias.name
        for node in ast.walk(typed)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen | {"__version__"} == set(ls.__all__)
    with pytest.raises(AttributeError, match="no attribute 'prun'"):
        ls.prun  # noqa: B018


@pytest.mark.parametrize("first", ["import litesmith.export", "import litesmith.study", "pass"])
def test_export_is_a_verb_whatever_was_imported_before(first):
    code = f"import litesmith as ls; {first}; print(callable(ls.export), callable(ls.convert))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True True"


def test_importing_litesmith_imports_no_framework():
    frameworks = ("keras", "tensorflow", "jax", "torch")
    code = f"import sys, litesmith; print([m for m in {frameworks} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def saved_prepared(tmp_path_factory):
    import keras

    inputs = keras.layers.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    path = tmp_path_factory.mktemp("saved") / "prepared.keras"
    ls.prepare(model, ls.Prune(sparsity=0.5)).save(path)
    return path


@pytest.mark.parametrize(
    "order",
    [
        "import litesmith, keras",
        "import keras, litesmith",
        "import litesmith.parametrize, keras",
        "import litesmith.schedules, keras",
    ],
)
def test_a_saved_prepared_model_loads_whatever_is_imported_first(order, saved_prepared):
    code = f"""
{order}
import numpy, sys
model = keras.saving.load_model({str(saved_prepared)!r})
assert "litesmith.pruning" in sys.modules
print(model.layers[-1].litesmith_holder.links[0].progress())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'sparsity': 0.5, 'steps': 0}"


def test_a_recipe_file_names_techniques_that_nobody_imported(tmp_path):
    path = ls.Recipe(ls.Prune(sparsity=0.5)).save(tmp_path / "recipe.toml")
    code = f"import litesmith as ls; print(len(ls.Recipe.load({str(path)!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_every_class_that_is_saved_has_a_stand_in():
    import keras

    from litesmith import _registration

    for path in SOURCE.rglob("parametrization.py"):
        importlib.import_module(
            ".".join(("litesmith", *path.relative_to(SOURCE).with_suffix("").parts))
        )
    registered = {
        name.removeprefix("litesmith>")
        for name in keras.saving.get_custom_objects()
        if name.startswith("litesmith>")
    }
    assert registered == set(_registration.SAVED)
    for name, module in _registration.SAVED.items():
        assert hasattr(importlib.import_module(module), name)


def test_keras_internals_are_touched_in_one_place_only():
    found = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name == "keras.src" or name.startswith("keras.src.") for name in names):
                found.add(path.parent.relative_to(SOURCE).as_posix())
    assert found == {"parametrize/internals"}


def test_core_files_import_only_keras_ops_and_numpy():
    allowed = {"__future__", "math", "collections.abc", "typing", "keras", "numpy"}
    for path in SOURCE.glob("*/core.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert set(names) <= allowed, path


def test_an_error_says_what_was_expected_what_came_and_what_to_do():
    error = RecipeError("sparsity", expected="a number", received="80", fix="write 0.8")
    assert str(error) == "sparsity: expected a number, received 80; write 0.8"
    assert errors.did_you_mean("prun", ["prune", "cluster"]) == "did you mean 'prune'?"
    assert errors.did_you_mean("x", ["prune", "cluster"]) == "choose one of 'prune', 'cluster'"
    assert errors.did_you_mean("x", []) == "there is nothing to choose from"


def test_every_error_stands_in_the_tree_of_the_docstring():
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, errors.LitesmithError):
            assert name in errors.__doc__


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with pytest.raises(OSError, match="disk full"), files.atomic(path) as temporary:
        temporary.write_text("half")
        raise OSError("disk full")
    assert not path.parent.exists()
    files.write_text(path, "whole")
    with pytest.raises(OSError, match="disk full"), files.atomic(path) as temporary:
        temporary.write_text("half")
        raise OSError("disk full")
    assert path.read_text() == "whole"
    assert files.sha256(path) == hashlib.sha256(b"whole").hexdigest()


CHILD = """
import os, time
import numpy as np
from litesmith.children import serve
from litesmith.errors import DataError

def double(fields, arrays):
    print("noise on standard output")
    return {"sum": fields["a"] + 1}, [array * 2 for array in arrays]

def refuse(fields, arrays):
    raise DataError("labels", expected="0 to 9", received=12)

def die(fields, arrays):
    import sys
    print("last words", file=sys.stderr, flush=True)
    os.abort()

def hang(fields, arrays):
    time.sleep(60)

def fail(fields, arrays):
    raise KeyError("x")

def take(fields, arrays):
    return {"bytes": np.ones(fields["count"], "int8").nbytes}, []

handlers = {"double": double, "refuse": refuse, "die": die, "hang": hang, "fail": fail}
serve({**handlers, "take": take}, bounded=True)
"""


@pytest.fixture
def child_module(tmp_path, monkeypatch):
    (tmp_path / "some_child.py").write_text(CHILD)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    return "some_child"


def test_arrays_go_to_a_child_and_come_back(child_module):
    arrays = [np.arange(6, dtype="int8").reshape(2, 3), np.empty((0, 4), "float32"), np.float64(3)]
    with Child(child_module) as child:
        for _ in range(2):
            fields, output = child.call("double", arrays=arrays, a=1)
            assert fields == {"sum": 2}
            for before, after in zip(arrays, output, strict=True):
                assert after.dtype == np.asarray(before).dtype
                assert np.array_equal(np.asarray(before) * 2, after)


def test_a_child_s_errors_come_by_class(child_module):
    with Child(child_module) as child:
        with pytest.raises(errors.DataError, match="expected 0 to 9, received 12"):
            child.call("refuse")
        with pytest.raises(ChildError, match="KeyError: 'x'"):
            child.call("fail")
        assert child.alive


def test_a_child_that_dies_is_quoted(child_module):
    with Child(child_module) as child, pytest.raises(ChildError, match="signal 6.*last words"):
        child.call("die")


def test_a_kept_child_serves_again_unless_something_went_wrong(child_module):
    with kept(child_module) as child:
        first = child.pid
        with kept(child_module) as other:  # it is taken
            assert other.pid != first
    with kept(child_module) as child:
        assert child.pid in (first, other.pid) and child.alive
        serving = child.pid
    with pytest.raises(ChildError, match="KeyError"), kept(child_module) as child:
        assert child.pid == serving
        child.call("fail")
    with kept(child_module) as child:
        assert child.pid != serving
    os.kill(child.pid, signal.SIGKILL)
    child._process.wait()
    with kept(child_module) as another:
        assert another.call("take", count=8)[0] == {"bytes": 8}


def test_a_child_that_hangs_is_stopped(child_module):
    with Child(child_module, timeout=1.0) as child:
        with pytest.raises(ChildError, match="did not answer within 1 s"):
            child.call("hang")
        pid = child.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.skipif(not os.path.exists("/proc/meminfo"), reason="limits are Linux's")
def test_a_child_gets_no_more_memory_than_there_is(child_module):
    with open("/proc/meminfo") as file:
        total = 1024 * int(next(line for line in file if line.startswith("MemTotal")).split()[1])
    with Child(child_module) as child:
        assert child.call("take", count=1000)[0] == {"bytes": 1000}
        with pytest.raises(ChildError, match="MemoryError"):
            child.call("take", count=2 * total + (4 << 30))
        assert child.alive


@pytest.mark.skipif(not os.path.exists("/proc"), reason="looks for the process in /proc")
def test_a_child_ends_with_its_parent_in_the_middle_of_a_call(child_module):
    code = (
        "from litesmith.children import Child\n"
        f"child = Child({child_module!r})\n"
        "print(child.pid, flush=True)\n"
        "child.call('hang')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 30
    while _runs(pid):
        assert time.monotonic() < deadline, "the child lives on"
        time.sleep(0.1)


def _runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"  # ended, and nobody asked
    except FileNotFoundError:
        return False
