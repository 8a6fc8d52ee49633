"""A study's folder: what is written where, and what of it can be trusted when a study resumes.

    study.json  study.toml  study.log  report.html  report.md
    baseline.keras  baseline.json
    variants/NAME/  result.json  model.tflite  model.tflite.json  stripped.keras  history.json
                    tensorboard/  where the study asks for it

A variant counts as finished when its `result.json` is whole, says `done`, carries the fingerprint
of what would be made now (settings, data, model, versions), and its artifact's hash is the one it
names. Everything is written to a neighbour and moved into place, `result.json` last, so a study
that was killed leaves nothing that could be taken for a result.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from litesmith import files
from litesmith.comparison.results import StudyResult, VariantResult
from litesmith.errors import OutputError, StudyError

# What `files.atomic` leaves of a file written here when the process is killed meanwhile.
_LEFTOVER = re.compile(
    r"\.(study|report|baseline|result|model|model\.tflite|stripped|history)-\w{8}"
    r"\.(json|toml|html|md|keras|tflite)"
)


EVENTS = "tensorboard"  # the folder of a variant's event files


def fingerprint(**parts: Any) -> str:
    """SHA-256 of anything JSON can hold, independent of the order of keys."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def derived_seed(seed: int, name: str) -> int:
    """The seed of one variant: from 0 up to 2**31, and no other variant's."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


class Store:
    """The folder of one study, held by one process at a time.

    Args:
        folder: where everything goes; made when it is opened.
        resume: whether results already there may be used.
    """

    def __init__(self, folder: str | os.PathLike[str], *, resume: bool = False):
        self.folder, self.resume = Path(folder), resume

    def check(self) -> None:
        """Refuse a folder that cannot be used, before anything is written.

        Raises:
            StudyError: it is a file, or holds a study and `resume` was not asked for.
            OutputError: it cannot be written.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise StudyError(
                "output",
                expected="a folder",
                received=f"{self.folder} (a file)",
                fix="name another with -o",
            )
        files.check_folder(self.folder)
        held = [name for name in ("study.json", "variants") if (self.folder / name).exists()]
        if held and not self.resume:
            raise StudyError(
                "output",
                expected="a folder without a study",
                received=f"{self.folder}, which already holds a study",
                fix="add --resume to go on with it, or name another folder with -o",
            )

    @contextlib.contextmanager
    def opened(self) -> Iterator[Store]:
        """Make the folder and hold it until the study ends.

        A study that ends because nothing more can be written leaves what is finished; where
        nothing is, and the folder is new, it leaves nothing.

        Raises:
            StudyError: another study is writing there.
            OutputError: the folder cannot be made or written.
        """
        made: list[Path] = []
        try:
            with contextlib.ExitStack() as held:
                try:
                    made = files.make_folder(self.folder)
                    held.enter_context(_lock(self.folder / ".lock"))
                except OSError as error:
                    raise files.unwritable(self.folder, error) from None
                self.check()  # again: another study may have come and gone meanwhile
                self._sweep()
                yield self
        except OutputError as error:
            if not self._worth_keeping():
                if made:
                    self._clear()
                    files.remove_empty(made)
                raise
            raise OutputError(
                str(self.folder),
                expected="room for the study's files",
                received=str(error.received),
                fix=f"{error.fix}; what is finished stays, --resume goes on with it",
            ) from error

    def _worth_keeping(self) -> bool:
        """Whether anything is finished here."""
        return (self.folder / "baseline.json").exists() or any(
            self.folder.glob("variants/*/result.json")
        )

    def _clear(self) -> None:
        """Remove what a study writes, from a folder that was made for it."""
        for folder in self.folder.glob(f"variants/*/{EVENTS}"):
            shutil.rmtree(folder, ignore_errors=True)
        for pattern in ("study.*", "report.*", "baseline.*", "variants/*/*", ".*"):
            for path in self.folder.glob(pattern):
                path.unlink()
        files.remove_empty([*self.folder.glob("variants/*"), self.folder / "variants"])

    def _sweep(self) -> None:
        """Remove half-written files that a killed study left."""
        for pattern in (".*-*", "variants/*/.*-*"):
            for path in self.folder.glob(pattern):
                if _LEFTOVER.fullmatch(path.name):
                    path.unlink()

    def variant(self, name: str) -> Path:
        """The folder of one variant, made when it is missing."""
        folder = self.folder / "variants" / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise files.unwritable(folder, error) from error
        return folder

    def relative(self, path: Path) -> str:
        """How study.json names a file: from the study's folder, with forward slashes."""
        return path.relative_to(self.folder).as_posix()

    def finished(self, name: str, expected: str) -> VariantResult | None:
        """The result of a variant that need not be made again, or None.

        Args:
            name: the variant.
            expected: the fingerprint it would be made with now.
        """
        if not self.resume:
            return None
        try:
            content = json.loads((self.folder / "variants" / name / "result.json").read_text())
            if content.pop("fingerprint") != expected:
                return None
            result = VariantResult.model_validate(content)
            whole = result.status == "done" and result.artifact is not None
            if whole and files.sha256(self.folder / str(result.artifact)) == result.sha256:
                return result
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ValidationError):
            pass
        return None

    def save_variant(self, result: VariantResult, mark: str) -> None:
        """Write a variant's result: the last thing done for it."""
        content = {**result.model_dump(), "fingerprint": mark}
        self.write_json(self.variant(result.name) / "result.json", content)

    def forget_variant(self, name: str) -> None:
        """Remove the result of a variant that is about to be made again."""
        (self.folder / "variants" / name / "result.json").unlink(missing_ok=True)

    def save(self, result: StudyResult) -> None:
        """Write study.json anew."""
        self.write_json(self.folder / "study.json", result.model_dump(by_alias=True))

    def write_json(self, path: Path, content: Any) -> None:
        """Write a JSON file whole; numbers that JSON does not know become null."""
        text = json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False)
        files.write_text(path, text + "\n")

    def log(self, text: str) -> None:
        """Add lines to study.log, with the time in UTC."""
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        path = self.folder / "study.log"
        try:
            with path.open("a", encoding="utf-8") as file:
                for line in text.rstrip().splitlines():
                    file.write(f"{now} {line}\n")
        except OSError as error:
            raise files.unwritable(path, error) from error


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a file against other processes."""
    try:
        import fcntl
    except ImportError:  # Windows
        try:
            path.open("x").close()
        except FileExistsError:
            raise _in_use(
                path, f"wait for it to end, or delete {path} if none is running"
            ) from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
        return
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            fix = "wait for it to end, or name another folder with -o"
            raise _in_use(path, fix) from None
        if not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
            raise _in_use(path, "try again")  # its study has just removed the folder
        yield  # the lock goes with the file, also when the process is killed


def _in_use(path: Path, fix: str) -> StudyError:
    return StudyError(
        "output",
        expected="a folder no other study works in",
        received=f"{path.parent}, which is in use by another study",
        fix=fix,
    )


def _finite(value: Any) -> Any:
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value
