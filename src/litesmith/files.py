"""Files that appear whole or not at all, and files somebody brings."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from litesmith.errors import ModelError, OutputError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write to a temporary neighbour that takes the place of `path` when the body ends well.

    The neighbour keeps the suffix (Keras goes by it), is flushed to the disk before it is moved,
    and is removed when the body fails, with the folders that were made for it.

    Args:
        path: the file to write.

    Yields:
        The path to write to meanwhile.

    Raises:
        OutputError: the folder cannot be made or written, or the disk is full.
    """
    target = Path(path)
    made: list[Path] = []
    temporary: Path | None = None
    try:
        made = make_folder(target.parent)
        handle, name = tempfile.mkstemp(
            prefix=f".{target.stem}-", suffix=target.suffix, dir=target.parent
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        os.replace(temporary, target)
    except BaseException as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        remove_empty(made)
        if isinstance(error, OSError) and not isinstance(error, OutputError):
            raise unwritable(target, error) from error
        raise


def make_folder(folder: Path) -> list[Path]:
    """Make a folder and those above it; returns the new ones, the innermost first.

    Raises:
        OSError: it cannot be made; none of them is left then.
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        remove_empty(missing)
        raise
    return missing


def remove_empty(folders: list[Path]) -> None:
    """Remove folders that were made in vain, the innermost first; what is in use stays."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def unwritable(path: str | os.PathLike[str], error: OSError) -> OutputError:
    """What to tell of a file or folder that the system would not have written."""
    code, said = error.errno, error.strerror or str(error) or type(error).__name__
    inner = re.search(r"errno = (\d+)", str(error))  # HDF5 tells it in a long sentence
    if code is None and inner:
        code = int(inner[1])
        said = os.strerror(code)
    fix = "name another place, or see who may write there"
    if code in _FULL:
        fix = "free some space, or name another place"
    return OutputError(
        os.fspath(path), expected="a place that can be written", received=said.lower(), fix=fix
    )


def check_writable(path: str | os.PathLike[str]) -> None:
    """Refuse an output file that could not be written, before the work that it is for.

    Args:
        path: the file; it need not exist, nor its folder.

    Raises:
        OutputError: it is a folder, its folder is a file, or writing there is not allowed.
    """
    target = Path(path)
    if target.is_dir():
        raise OutputError(
            str(target), expected="the path of a file", received="a folder", fix="name a file in it"
        )
    check_folder(target.parent, target)


def check_folder(folder: str | os.PathLike[str], name: Path | None = None) -> None:
    """Refuse a folder that could not be written into, or not be made, as far as can be seen.

    Args:
        folder: it need not exist.
        name: what the error calls it; default its path.

    Raises:
        OutputError: it is a file, or would have to be made where that is not allowed.
    """
    target = Path(folder)
    there = next(each for each in (target, *target.absolute().parents) if os.path.lexists(each))
    for code, fits in (
        (errno.ENOTDIR, there.is_dir()),
        (errno.EACCES, os.access(there, os.W_OK | os.X_OK)),
    ):
        if not fits:
            raise unwritable(name or target, OSError(code, os.strerror(code)))


def write_bytes(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write a whole file of bytes, or nothing."""
    with atomic(path) as temporary:
        temporary.write_bytes(data)
    return Path(path)


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write several files, or none: all are written out before the first takes its place."""
    with contextlib.ExitStack() as stack:
        for path, data in contents.items():
            temporary = stack.enter_context(atomic(path))
            temporary.write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write a whole UTF-8 text file, or nothing."""
    return write_bytes(path, text.encode())


def read_model(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a model file somebody names.

    Raises:
        ModelError: there is no such file, or it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ModelError(
            str(Path(path)),
            expected="a model file",
            received=(error.strerror or str(error)).lower(),
            fix="see that the path is right",
        ) from error


def sha256(path: str | os.PathLike[str]) -> str:
    """The file's SHA-256, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
