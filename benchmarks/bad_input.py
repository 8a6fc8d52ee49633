"""Every bad input a user is likely to bring, given to the real command in fresh processes.

    python benchmarks/bad_input.py [-o build/bad-input] [-k PART] [--jobs 2]

Each must end with exit code 2 and one line on standard error that says what was expected, what
came and what to do; no traceback, nothing on standard output, no file left behind: not where it
was asked to write, nor among temporary files, nor in shared memory. Prints a row a case, writes
`bad_input.json`, and ends with 1 if any case is not so.

A full disk is a tmpfs of a few kB, which takes root to mount; as another user those cases are
skipped, and it says so. Where this one is root, whom no permission stops, what is forbidden is
tried without that right (`setpriv`).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import bad_input_cases, bad_input_files  # noqa: E402
from benchmarks.bad_input_cases import Case  # noqa: E402

# How an error line must look.
LINE = re.compile(r"error: .*expected .+, received .+; .+")
# What a command says of its progress where there is no terminal.
PROGRESS = re.compile(r"(loading|reading|exporting|evaluating|measuring) .*")
STUDY = re.compile(r"(\d+ variants of|\[\d/\d\]|baseline:) .*")

# Root without the right to pass over permissions.
STOPPED = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


def tree(folder: Path) -> dict[str, tuple[int, ...]]:
    """Every file below a folder with its size and time; a folder stands for itself."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        whole = path.is_file() and not path.is_symlink()
        found[str(path.relative_to(folder))] = (status.st_size, status.st_mtime_ns) if whole else ()
    return found


def faults(case: Case, code: int, out: str, err: str, changed: list[str]) -> list[str]:
    """What is wrong with how a command ended; nothing where all is as it must be.

    Args:
        case: the case.
        code: exit code.
        out: standard output.
        err: standard error.
        changed: files that are there, gone or changed since.
    """
    lines = err.splitlines()
    last = lines[-1] if lines else ""
    found = []
    if code != 2:
        found.append(f"exit code {code}")
    if out:
        found.append(f"standard output: {out[:80]!r}")
    if not LINE.fullmatch(last):
        found.append("the line does not say what was expected, what came and what to do")
    found += [f"{piece!r} is not in the line" for piece in case.telling if piece not in last]
    quiet = (PROGRESS, STUDY) if case.disk else (PROGRESS,)
    more = [line for line in lines[:-1] if not any(form.fullmatch(line) for form in quiet)]
    if more:
        found.append(f"{len(more)} more lines, the first {more[0][:120]!r}")
    found += [f"left or changed: {path}" for path in changed]
    return found


def run(case: Case, folder: Path, backend: str) -> dict[str, Any]:
    """Run one case in a process of its own, with a folder of its own for temporary files."""
    place = folder.parent / "temporary"
    place.mkdir(exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=place, prefix=re.sub(r"\W+", "-", case.name)))
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "TMPDIR": str(temporary),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = STOPPED if case.plain and os.geteuid() == 0 else []
    before, began = tree(folder), time.perf_counter()
    with disk(folder / "disk", case.disk):
        start = tree(folder / "disk")
        done = subprocess.run(
            [*command, str(Path(sys.executable).parent / "litesmith"), *case.arguments],
            env=environment,
            cwd=temporary,
            capture_output=True,
            text=True,
            timeout=600,
        )
        on_disk = sorted(set(start.items()) ^ set(tree(folder / "disk").items()))
    changed = sorted({path for path, _ in set(before.items()) ^ set(tree(folder).items())})
    changed += [f"disk/{path}" for path, _ in on_disk]
    changed += tree(temporary)
    found = faults(case, done.returncode, done.stdout, done.stderr, changed)
    return {
        "name": case.name,
        "arguments": list(case.arguments),
        "line": (done.stderr.splitlines() or [""])[-1],
        "faults": found,
        "seconds": round(time.perf_counter() - began, 2),
    }


@contextmanager
def disk(place: Path, size: int) -> Iterator[None]:
    """A disk of a few kB at a folder; none where the size is 0."""
    if not size:
        yield
        return
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k,mode=777", "tmpfs", str(place)]
    subprocess.run(mount, check=True, capture_output=True)
    try:
        if size <= 4:
            (place / "filler").write_bytes(bytes(4096 * (size // 4)))
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def can_mount(folder: Path) -> bool:
    """Whether this user may mount a tmpfs."""
    try:
        with disk(folder / "disk", 8):
            return True
    except (subprocess.CalledProcessError, FileNotFoundError):
        return False


def in_shared_memory() -> set[str]:
    """What evaluation left in shared memory."""
    folder = Path("/dev/shm")
    return {path.name for path in folder.glob("litesmith-*")} if folder.is_dir() else set()


def main() -> int:
    """Run all cases; the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-o", "--output", type=Path, default=Path("build/bad-input"))
    parser.add_argument("-k", default="", help="only cases whose name has this in it")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--backend", default=os.environ.get("KERAS_BACKEND", "jax"))
    options = parser.parse_args()
    os.environ["KERAS_BACKEND"] = options.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    output = options.output.resolve()
    subprocess.run(["rm", "-rf", str(output / "files"), str(output / "temporary")], check=True)
    folder = output / "files"
    folder.mkdir(parents=True)
    began, held = time.perf_counter(), in_shared_memory()
    bad_input_files.make(folder)
    cases = [case for case in bad_input_cases.cases(folder) if options.k in case.name]
    if any(case.disk for case in cases) and not can_mount(folder):
        print("skipped: full disks, since this user may not mount one")
        cases = [case for case in cases if not case.disk]
    together = [case for case in cases if not case.disk]
    with ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(lambda case: run(case, folder, options.backend), together))
    results += [run(case, folder, options.backend) for case in cases if case.disk]
    left = sorted(in_shared_memory() - held)
    for result in results:
        print(f"{'ok ' if not result['faults'] else 'BAD'}  {result['name']}")
        for fault in result["faults"]:
            print(f"       {fault}")
        if result["faults"]:
            print(f"       {result['line']}")
    bad = sum(bool(result["faults"]) for result in results)
    seconds = time.perf_counter() - began
    print(f"{len(results) - bad} of {len(results)} bad inputs as they must be, {seconds:.0f} s")
    if left:
        print(f"left in shared memory: {', '.join(left)}")
    content = {"cases": results, "left_in_shared_memory": left, "seconds": round(seconds, 1)}
    (output / "bad_input.json").write_text(json.dumps(content, indent=2) + "\n")
    return 1 if bad or left else 0


if __name__ == "__main__":
    sys.exit(main())
