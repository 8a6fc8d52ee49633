"""The stock tools' environment: tfmot and tf_keras, made once, beside the benchmark's results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PACKAGES = ("tensorflow==2.21.*", "tf_keras==2.21.*", "tensorflow-model-optimization==0.8.1")
HERE = Path(__file__).parent
FOLDER = HERE.parent.parent / "build" / "stock-environment"


def python(folder: Path = FOLDER) -> Path:
    """The environment's interpreter; the environment is made where it is missing."""
    interpreter = folder / "bin" / "python"
    done = folder / "done"
    if not done.exists() or done.read_text() != "\n".join(PACKAGES):
        print(f"making {folder} with {', '.join(PACKAGES)}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(interpreter), "-m", "pip", "install", "--quiet", *PACKAGES]
        subprocess.run(install, check=True)
        done.write_text("\n".join(PACKAGES))
    return interpreter


def run(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Have the stock tools do a job; see `child.py`.

    Raises:
        RuntimeError: they failed.
    """
    interpreter = python()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "job.json"
        file.write_text(json.dumps(job))
        environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment.pop("KERAS_BACKEND", None)
        done = subprocess.run(
            [str(interpreter), str(HERE / "child.py"), str(file)],
            stdout=subprocess.PIPE,
            env=environment,
            check=False,
            text=True,
        )
    if done.returncode:
        raise RuntimeError(f"the stock tools failed with exit code {done.returncode}")
    return json.loads(done.stdout.strip().splitlines()[-1])
