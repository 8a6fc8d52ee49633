"""The command line's manners: help, exit codes, one-line errors, clean standard output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings

import pytest

from litesmith.cli import common, run
from litesmith.cli.compare import _names, _parse_drop
from litesmith.errors import ExportError, InputError, LitesmithWarning

COMMANDS = ("study", "inspect", "export", "evaluate", "benchmark", "compare")


def litesmith(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "litesmith.cli", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
    )


def test_help_names_every_command_and_imports_nothing_heavy():
    seconds = []
    for _ in range(5):
        before = os.times()
        done = litesmith("--help")
        after = os.times()
        seconds.append(sum(after[2:4]) - sum(before[2:4]))
    assert done.returncode == 0
    assert all(f"  {command} " in done.stdout for command in COMMANDS)
    assert min(seconds) <= 0.4  # processor time of the child: the machine may be busy
    heavy = "numpy keras tensorflow jax torch pydantic rich matplotlib ai_edge_litert"
    code = (
        "import sys\nfrom litesmith.cli import run\nrun(['--help'])\n"
        f"print([name for name in '{heavy}'.split() if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_json_and_debug(command, capsys):
    assert run([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert "--json" in text
    assert "--debug" in text


def test_version(capsys):
    from litesmith import __version__

    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"litesmith {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stdy"], "error: No such command 'stdy'. Did you mean 'study'?; see litesmith --help"),
        (["export", "m.keras"], "error: Missing option '--output' / '-o'; see litesmith export"),
        (["evaluate", "m.keras"], "error: Missing option '--data'; see litesmith evaluate --help"),
        (["benchmark"], "error: Missing argument"),
        (["benchmark", "m", "--runs", "0"], "error: Invalid value for '--runs'"),
        (["inspect", "m", "--jsn"], "error: No such option: --jsn"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments, message, capsys):
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_no_command_shows_the_help(capsys):
    assert run([]) == 2
    assert "Usage: litesmith" in "".join(capsys.readouterr())


def command(error):
    def body(debug: bool = False) -> int:
        raise error

    return common.guarded(body)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("x", expected="1", received="2"), 2, "error: x: expected 1, received 2\n"),
        (ExportError("the converter failed\nbadly"), 1, "error: the converter failed badly\n"),
        (
            PermissionError(13, "Permission denied", "out"),
            2,
            "error: out: expected a file or folder that",
        ),
        (KeyError("oops"), 1, "error: unexpected: KeyError: 'oops'; run again with --debug"),
        (RuntimeError(), 1, "error: unexpected: RuntimeError; run again with --debug"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_errors_are_one_line(error, code, line, capsys):
    assert command(error)() == code
    err = capsys.readouterr().err
    assert err.startswith(line)
    assert err.count("\n") == 1


def test_debug_shows_the_traceback(capsys):
    assert command(InputError("x"))(debug=True) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("error: x\n")


def test_our_warnings_are_a_line_each_and_others_none(capsys):
    def body(debug: bool = False) -> int:
        warnings.warn("theirs", UserWarning, stacklevel=1)
        warnings.warn("ours", LitesmithWarning, stacklevel=1)
        return 0

    assert common.guarded(body)() == 0
    assert capsys.readouterr().err == "warning: ours\n"


def test_standard_output_is_kept_from_libraries_and_native_code(capfd):
    with common.standard_output_kept():
        print("chatter")
        os.write(1, b"native chatter\n")
    common.write_json({"a": float("nan"), "b": (1, 2)})
    out, err = capfd.readouterr()
    assert json.loads(out) == {"a": None, "b": [1, 2]}
    assert "chatter" in err


def test_native_errors_are_dropped_but_ours_shown():
    code = (
        "import os, sys\nfrom litesmith.cli.common import guarded, complain\n"
        "def body(debug=False):\n    os.write(2, b'noise\\n')\n    complain('mine')\n    return 0\n"
        "guarded(body)(debug=sys.argv[1] == 'debug')\ncomplain('after')"
    )
    for argument, expected in (("quiet", "mine\nafter\n"), ("debug", "noise\nmine\nafter\n")):
        done = subprocess.run(
            [sys.executable, "-c", code, argument],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
        )
        assert done.stderr == expected


def test_backend_is_respected_or_chosen(monkeypatch, tmp_path):
    installed = {"jax", "torch"}
    monkeypatch.setattr(
        common.importlib.util, "find_spec", lambda name: name if name in installed else None
    )
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    common.choose_backend()
    assert os.environ["KERAS_BACKEND"] == "torch"

    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    with pytest.raises(InputError, match=r"not installed; install litesmith\[tensorflow\]"):
        common.choose_backend()
    monkeypatch.setenv("KERAS_BACKEND", "tensorflw")
    with pytest.raises(InputError, match="did you mean 'tensorflow'"):
        common.choose_backend()

    monkeypatch.delenv("KERAS_BACKEND")
    common.choose_backend()
    assert os.environ["KERAS_BACKEND"] == "jax"
    monkeypatch.delenv("KERAS_BACKEND")
    (tmp_path / "keras.json").write_text('{"backend": "torch"}')
    common.choose_backend()  # what Keras is set to is installed: nothing to choose
    assert "KERAS_BACKEND" not in os.environ
    installed.clear()
    with pytest.raises(InputError, match="no Keras backend is installed"):
        common.choose_backend()


def test_image_sizes():
    assert common.parse_size("96x64") == (96, 64)
    for wrong in ("96", "axb", "0x4", "1x2x3"):
        with pytest.raises(InputError, match="HEIGHTxWIDTH, as in 96x96"):
            common.parse_size(wrong)


def test_an_unknown_split():
    with pytest.raises(InputError, match="--split: expected train or validation or test"):
        common.split_of("digits", "tst", None)


def test_max_drop():
    assert _parse_drop("accuracy=0.01") == ("accuracy", 0.01)
    for wrong in ("accuracy", "accuracy=", "=0.1", "accuracy=-1", "accuracy=nan", "accuracy=x"):
        with pytest.raises(InputError, match="METRIC=DROP, as in accuracy=0.01"):
            _parse_drop(wrong)


def test_names_of_compared_models():
    assert _names(["a/one.tflite", "b/two.tflite"]) == ["one", "two"]
    assert _names(["one.keras", "one.tflite"]) == ["one.keras", "one.tflite"]
    assert _names(["a/m.tflite", "b/m.tflite"]) == ["a/m.tflite", "b/m.tflite"]
    assert _names(["a.tflite", "baseline.tflite"]) == ["a.tflite", "baseline.tflite"]
    models = ["a.tflite", "baseline"]  # a folder
    assert _names(models) == [os.path.abspath(model) for model in models]
    for again in ("m.tflite", "./m.tflite"):
        with pytest.raises(InputError, match=r"m.tflite twice"):
            _names(["m.tflite", "n.tflite", again])
