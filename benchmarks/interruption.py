"""A study killed at random moments and resumed: is it as if nothing had happened?

    python benchmarks/interruption.py [--kills 20] [--seed 0] [-o build/interruption]

A small study (the digits, one epoch, three variants) runs once undisturbed. Then, in a new folder
for each moment, it is started as a user would, its whole process group killed (SIGKILL) at a
moment drawn from the time it takes, and resumed with `--resume`. Every other kill waits, from its
moment on, for a file that is just being written. After each it is checked that

- what lies in the folder after the kill is whole: every JSON file can be read, every finished
  result's model has the hash it names;
- what was finished is not made again: its files keep their times, and `study.log` says so;
- `study.json`, each variant's `result.json` and history, and each `.tflite` are the undisturbed
  study's, but for times and measured memory;
- nothing half-written is left.

At the end two studies are started in one folder: the second must say so and leave with exit code
2, the first must not notice. Prints a row a kill, writes `interruption.json`, and ends with 1 if
anything is not so.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

STUDY = """\
seed = 7
[model]
source = "builtin:digits"
[data]
source = "digits"
calibration_samples = 32
[baseline]
epochs = 1
batch_size = 64
[fine_tune]
epochs = 1
batch_size = 64
[[variant]]
name = "int8"
quantize = "int8"
[[variant]]
name = "pruned"
recipe = [{ technique = "prune", sparsity = 0.8 }]
"""
VARIANTS = ("baseline", "int8", "pruned")
# Times, and memory, which the system measures: nothing else may differ.
MEASURED = ("seconds", "latency_ms", "load_ms", "memory")


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    """`litesmith study` in a process group of its own, its temporary files in the folder."""
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    (folder / "study.toml").write_text(STUDY)
    command = [str(Path(sys.executable).parent / "litesmith"), "study", "study.toml", "-o", "out"]
    return subprocess.Popen(
        [*command, *options],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder / "tmp"), "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for a study; it must end well."""
    _, errors = process.communicate(timeout=900)
    if process.returncode != 0:
        raise RuntimeError(f"exit code {process.returncode}: {errors.strip()[-500:]}")


def kill(process: subprocess.Popen[str], out: Path, moment: float, *, writing: bool) -> str:
    """Kill a study and its children so many seconds from now.

    Args:
        process: the study.
        out: its folder.
        moment: seconds to wait.
        writing: wait on, three seconds at most, for a file that is half-written.

    Returns:
        The half-written files of that moment; "-" where the study was over before.
    """
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=moment)
    deadline = time.monotonic() + 3
    while writing and not half_written(out) and time.monotonic() < deadline:
        if process.poll() is not None:
            break
    over = process.poll() is not None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return "-" if over else ", ".join(half_written(out))


def half_written(out: Path) -> list[str]:
    """Names of the files that are still to be moved into place."""
    found = []
    for folder in (out, *(out / "variants" / name for name in VARIANTS)):
        with contextlib.suppress(FileNotFoundError):
            found += [each for each in os.listdir(folder) if each[0] == "." and each != ".lock"]
    return found


def finished(out: Path) -> dict[str, list[Path]]:
    """What is finished, by name, and the files that say so; checked to be whole."""
    for path in [*out.glob("*.json"), *out.glob("variants/*/*.json")]:
        if not path.name.startswith("."):
            json.loads(path.read_text())
    found = {}
    if (out / "baseline.json").exists():
        told = json.loads((out / "baseline.json").read_text())["sha256"]
        if told != sha256(out / "baseline.keras"):
            raise AssertionError("baseline.json is there, but not the baseline it names")
        found["the baseline's training"] = [out / "baseline.json", out / "baseline.keras"]
    for name in VARIANTS:
        folder = out / "variants" / name
        if not (folder / "result.json").exists():
            continue
        result = json.loads((folder / "result.json").read_text())
        if result["status"] != "done" or result["sha256"] != sha256(out / result["artifact"]):
            raise AssertionError(f"{name}: result.json is there, but not the model it names")
        found[name] = [path for path in folder.iterdir() if path.name[0] != "."]
    return found


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def without_times(value: Any) -> Any:
    """A JSON tree without what is measured."""
    if isinstance(value, dict):
        return {key: without_times(each) for key, each in value.items() if key not in MEASURED}
    return [without_times(each) for each in value] if isinstance(value, list) else value


def results(out: Path) -> dict[str, Any]:
    """What a study gave, in a form that two studies can be compared in."""
    found: dict[str, Any] = {
        "study.json": without_times(json.loads((out / "study.json").read_text()))
    }
    found["baseline"] = json.loads((out / "baseline.json").read_text())["history"]
    for name in VARIANTS:
        folder = out / "variants" / name
        found[name] = without_times(json.loads((folder / "result.json").read_text()))
        found[f"{name} model"] = sha256(folder / "model.tflite")
        manifest = json.loads((folder / "model.tflite.json").read_text())
        found[f"{name} manifest"] = without_times(manifest)
        if (folder / "history.json").exists():
            found[f"{name} history"] = json.loads((folder / "history.json").read_text())
    return found


def differences(one: Any, other: Any, place: str = "") -> list[str]:
    """The places at which two JSON trees differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted({*one, *other})
        parts = (differences(one.get(k), other.get(k), f"{place}/{k}") for k in keys)
        return [each for part in parts for each in part]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        parts = (differences(a, b, f"{place}/{i}") for i, (a, b) in pairs)
        return [each for part in parts for each in part]
    return [] if one == other else [place]


def trial(
    folder: Path, moment: float, *, writing: bool, expected: dict[str, Any]
) -> dict[str, Any]:
    """Kill one study, resume it, and compare; what happened, and what is wrong with it."""
    out, row = folder / "out", {"moment": round(moment, 2)}
    row["half_written"] = kill(start(folder), out, moment, writing=writing)
    wrong: list[str] = []
    try:
        before = finished(out)
    except (ValueError, AssertionError, OSError) as error:
        return {**row, "finished": [], "wrong": [f"after the kill: {error}"]}
    row["finished"] = list(before)
    times = {path: path.stat().st_mtime_ns for paths in before.values() for path in paths}
    log = out / "study.log"
    seen = log.read_text() if log.exists() else ""
    begun = time.monotonic()
    try:
        finish(start(folder, "--resume"))
    except RuntimeError as error:
        return {**row, "wrong": [f"when resumed: {error}"]}
    row["seconds"] = round(time.monotonic() - begun, 1)
    wrong += [
        f"{path.relative_to(out)} was written again"
        for path, stamp in times.items()
        if path.stat().st_mtime_ns != stamp
    ]
    said = log.read_text()[len(seen) :]
    reused = set(re.findall(r"Z (\S+): reused", said))
    if reused != set(before) & set(VARIANTS):
        wrong.append(f"said to be finished: {sorted(reused)}, but that was {sorted(before)}")
    if "the baseline's training" in before and "training the baseline" in said:
        wrong.append("the baseline was trained again")
    wrong += [f"differs: {place}" for place in differences(results(out), expected)[:5]]
    wrong += [f"left half-written: {name}" for name in half_written(out)]
    wrong += [f"no {name}" for name in ("report.html", "report.md") if not (out / name).exists()]
    return {**row, "wrong": wrong}


def two_at_once(folder: Path) -> list[str]:
    """Start two studies in one folder; what is wrong with how they end."""
    first = start(folder)
    while not (folder / "out" / "study.json").exists() and first.poll() is None:
        time.sleep(0.05)
    wrong = []
    for options in ((), ("--resume",)):
        second = start(folder, *options)
        _, errors = second.communicate(timeout=300)
        last = (errors.strip().splitlines() or [""])[-1]
        if first.poll() is not None:
            wrong.append("the first was over before the second had begun")
        expected = "in use by another study" if options else "already holds a study"
        if second.returncode != 2 or expected not in last or "Traceback" in errors:
            wrong.append(f"the second ended with {second.returncode}: {last}")
    try:
        finish(first)
    except RuntimeError as error:
        wrong.append(f"the first: {error}")
    return wrong


def main() -> int:
    """Run all of it; the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, default=Path("build/interruption"))
    options = parser.parse_args()
    output = options.output.resolve()
    shutil.rmtree(output, ignore_errors=True)
    began = time.monotonic()
    finish(start(output / "whole"))
    whole = time.monotonic() - began
    expected = results(output / "whole" / "out")
    print(f"undisturbed: {whole:.1f} s", flush=True)
    rng, rows = np.random.default_rng(options.seed), []
    # One moment in each of so many equal parts of the time, in any order.
    parts = (np.arange(options.kills) + rng.random(options.kills)) / options.kills
    for number, part in enumerate(rng.permutation(parts), 1):
        folder, moment = output / f"kill-{number}", float(part * whole)
        while True:
            shutil.rmtree(folder, ignore_errors=True)
            row = trial(folder, moment, writing=number % 2 == 0, expected=expected)
            if row["half_written"] != "-":
                break
            moment *= 0.8  # the machine is quicker than it was: the study was over
        rows.append(row)
        print(
            f"{number:2}  killed at {row['moment']:5.1f} s  finished: "
            f"{', '.join(row['finished']) or 'nothing'}"
            f"{'  writing ' + row['half_written'] if row['half_written'] else ''}  "
            f"{'; '.join(row['wrong']) or 'ok'}",
            flush=True,
        )
        shutil.rmtree(folder / "tmp", ignore_errors=True)
    together = two_at_once(output / "two")
    good, seconds = sum(not row["wrong"] for row in rows), time.monotonic() - began
    print(f"two studies in one folder: {'; '.join(together) or 'the second left'}")
    print(f"{good} of {len(rows)} as if undisturbed, {seconds:.0f} s")
    content = {"whole": whole, "kills": rows, "two": together, "seconds": round(seconds, 1)}
    (output / "interruption.json").write_text(json.dumps(content, indent=2) + "\n")
    return 0 if good == len(rows) and not together else 1


if __name__ == "__main__":
    sys.exit(main())
