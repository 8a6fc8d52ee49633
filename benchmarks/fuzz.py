"""Damaged files, a thousand of each kind, given to everything of ours that reads them.

    python benchmarks/fuzz.py [-n 1000] [--kinds tflite keras study] [--seed 0] [--jobs 2]

Valid `.tflite`, `.keras` and study files are damaged (`mutations.py`) and read: a `.tflite` by
`flatbuffer.read`, `inspect`, `evaluate`, `benchmark` and `export`; a `.keras` by `models.load`; a
study file by `Study.load` and the plan of what it asks for. Each must end in a result or in a
`LitesmithError` of one line. The reading runs in worker processes that this one watches: one that
dies or is silent for two minutes has failed on the file it was at, which is kept under
`build/fuzz/failed/`. Prints what came of them, writes `fuzz.json`, and ends with 1 if a worker
died, hung, or met another exception.

    python benchmarks/fuzz.py --kinds tflite --only 123     one of them, in this process
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

SILENCE = 120.0  # seconds after which a worker is taken to hang


@dataclass
class Tally:
    """What came of the files of one kind."""

    outcomes: list[dict[str, str]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, -1)


def work(kind: str, seed: int, numbers: range, folder: Path) -> None:
    """A worker: a JSON line before each file, and one after it."""
    from benchmarks.fuzzing import Fuzzer, reused_children

    said = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer

    def tell(**fields: Any) -> None:
        said.write(json.dumps(fields) + "\n")

    fuzzer = Fuzzer(kind, folder, _seeds(folder.parent / f"seeds-{kind}"))
    with reused_children():
        for number in numbers:
            tell(begin=number)
            began = time.perf_counter()
            outcome = fuzzer.run(fuzzer.content(number, seed))
            seconds = time.perf_counter() - began
            tell(end=number, steps=outcome.steps, problem=outcome.problem, seconds=seconds)


def _seeds(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("seed-*"))]


def prepare(kind: str, output: Path, jobs: int) -> None:
    """Make the valid files once, and a folder for each worker."""
    from benchmarks.fuzzing import Fuzzer

    fuzzer = Fuzzer(kind, output / "made")
    folder = output / f"seeds-{kind}"
    folder.mkdir(parents=True)
    for number, content in enumerate(fuzzer.seeds):
        (folder / f"seed-{number}").write_bytes(content)
    for job in range(jobs):
        place = output / f"worker-{job}"
        place.mkdir(exist_ok=True)
        for name in ("model.keras", "data.npz"):  # what the study file names
            if (output / "made" / name).exists():
                (place / name).write_bytes((output / "made" / name).read_bytes())


def watch(kind: str, seed: int, numbers: range, output: Path, job: int, tally: Tally) -> None:
    """Have workers read the files of these numbers, one worker after the other where they fail."""
    at = numbers.start
    while at < numbers.stop:
        command = [sys.executable, __file__, "--worker", kind, "--seed", str(seed)]
        command += ["--numbers", f"{at}:{numbers.stop}:{numbers.step}", "-o", str(output)]
        command += ["--job", str(job)]
        errors = (output / f"worker-{job}.log").open("ab")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_pump, args=(process.stdout, lines), daemon=True).start()
        begun: int | None = None
        fault = ""
        while True:
            try:
                line = lines.get(timeout=SILENCE)
            except queue.Empty:
                fault = f"hung: no answer in {SILENCE:.0f} s"
                process.kill()
                break
            if line is None:
                if process.wait() != 0:
                    fault = f"died: exit code {process.returncode}"
                break
            fields = json.loads(line)
            if "begin" in fields:
                begun = fields["begin"]
                continue
            tally.outcomes.append(fields["steps"])
            tally.slowest = max(tally.slowest, (fields["seconds"], fields["end"]))
            if fields["problem"]:
                tally.failures.append({"number": fields["end"], "problem": fields["problem"]})
            at, begun = fields["end"] + numbers.step, None
        process.wait()
        errors.close()
        if fault:
            tally.failures.append({"number": begun, "problem": fault})
            if begun is None:  # before any file: it would only happen again
                return
            at = begun + numbers.step
        elif at < numbers.stop and begun is None:
            continue


def _pump(stream: Any, lines: queue.Queue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def keep(kind: str, seed: int, tally: Tally, output: Path) -> None:
    """Write the files that something failed on."""
    from benchmarks.fuzzing import Fuzzer

    fuzzer = Fuzzer(kind, output / "made", _seeds(output / f"seeds-{kind}"))
    folder = output / "failed"
    folder.mkdir(exist_ok=True)
    for failure in tally.failures:
        if failure["number"] is not None:
            content = fuzzer.content(failure["number"], seed)
            (folder / f"{failure['number']}.{kind}").write_bytes(content)


def main() -> int:
    """Fuzz; the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", "--files", type=int, default=1000, help="of each kind")
    parser.add_argument("--kinds", nargs="+", default=["tflite", "keras", "study"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", type=int, help="one number, in this process")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--numbers", help=argparse.SUPPRESS)
    parser.add_argument("--job", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("KERAS_BACKEND", "jax")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    output = options.output.resolve()
    if options.worker:
        numbers = range(*map(int, options.numbers.split(":")))
        work(options.worker, options.seed, numbers, output / f"worker-{options.job}")
        return 0
    if options.only is not None:
        from benchmarks.fuzzing import Fuzzer

        kind = options.kinds[0]
        seeds = _seeds(output / f"seeds-{kind}") or None
        fuzzer = Fuzzer(kind, output / "worker-0", seeds)
        print(fuzzer.run(fuzzer.content(options.only, options.seed)))
        return 0

    from benchmarks.fuzzing import backend, counted

    subprocess.run(["rm", "-rf", str(output)], check=True)
    output.mkdir(parents=True)
    report: dict[str, Any] = {"backend": backend(), "seed": options.seed, "kinds": {}}
    failures = 0
    for kind in options.kinds:
        began = time.perf_counter()
        prepare(kind, output, options.jobs)
        tally = Tally()
        threads = [
            threading.Thread(
                target=watch,
                args=(
                    kind,
                    options.seed,
                    range(job, options.files, options.jobs),
                    output,
                    job,
                    tally,
                ),
            )
            for job in range(options.jobs)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        keep(kind, options.seed, tally, output)
        seconds = time.perf_counter() - began
        died = sum(f["problem"].startswith("died") for f in tally.failures)
        hung = sum(f["problem"].startswith("hung") for f in tally.failures)
        other = len(tally.failures) - died - hung
        print(
            f"{kind}: {len(tally.outcomes)} files read to the end in {seconds:.0f} s (the slowest "
            f"{tally.slowest[0]:.1f} s, number {tally.slowest[1]}); deaths {died}, hangs {hung}, "
            f"other exceptions {other}",
            flush=True,
        )
        endings = counted(tally.outcomes)
        for step, counts in endings.items():
            shown = ", ".join(f"{name} {count}" for name, count in counts.items())
            print(f"    {step:<10} {shown}")
        for failure in tally.failures:
            print(f"    file {failure['number']}: {failure['problem']}")
        report["kinds"][kind] = {
            "files": len(tally.outcomes),
            "seconds": round(seconds, 1),
            "slowest": tally.slowest,
            "endings": endings,
            "failures": tally.failures,
        }
        # A worker that stopped early has not read all of its files.
        failures += len(tally.failures) + (len(tally.outcomes) + died + hung < options.files)
    (output / "fuzz.json").write_text(json.dumps(report, indent=2) + "\n")
    total = sum(each["files"] for each in report["kinds"].values())
    print(f"{total} files, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
