"""`module:function`: code of the user's, named in a study file or on the command line."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from litesmith.errors import DataError, InputError, did_you_mean


def resolve(
    source: str, root: Path | None = None, error: type[InputError] = DataError
) -> Callable[..., Any]:
    """The function a `module:function` names.

    Args:
        source: `package.module:function`, or `path/to/file.py:function`.
        root: the folder a path is relative to, and where a dotted name is looked for first; the
            working directory where it is not given.
        error: what to raise.

    Raises:
        InputError: no such file, module or function, or the module fails when it is imported.
    """
    module_name, separator, function_name = source.rpartition(":")
    if not separator or not module_name or not function_name.isidentifier():
        raise error(
            repr(source),
            expected="module:function or file.py:function",
            received=source,
            fix="write it so, as in data.py:load",
        )
    folder = Path(root) if root is not None else Path.cwd()
    with _importable(folder):
        try:
            if module_name.endswith(".py"):
                module = _from_file(folder / module_name, error)
            else:
                importlib.invalidate_caches()  # the file may be seconds old
                module = importlib.import_module(module_name)
        except InputError:
            raise
        except ModuleNotFoundError as problem:
            if problem.name and (
                module_name == problem.name or module_name.startswith(problem.name + ".")
            ):
                raise error(
                    repr(source),
                    expected=f"a module that can be imported from {folder} or is installed",
                    received=f"no module named {problem.name!r}",
                    fix="give a dotted name, or the path of a .py file",
                ) from problem
            raise _failed(source, "importing it", problem, error) from problem
        except (Exception, SystemExit) as problem:
            raise _failed(source, "importing it", problem, error) from problem
    function = getattr(module, function_name, None)
    if not callable(function):
        names = [
            name
            for name, value in vars(module).items()
            if callable(value) and not name.startswith("_")
        ]
        raise error(
            repr(source),
            expected=f"a function in {module_name}",
            received=f"no function {function_name!r}",
            fix=did_you_mean(function_name, names),
        )
    return function


def call(
    source: str,
    arguments: dict[str, Any] | None = None,
    root: Path | None = None,
    error: type[InputError] = DataError,
) -> Any:
    """Call the function a `module:function` names; what it raises becomes one clear line.

    Args:
        source: the function's name.
        arguments: keyword arguments.
        root: see `resolve`.
        error: what to raise.
    """
    function = resolve(source, root, error)
    with _importable(Path(root) if root is not None else Path.cwd()):
        try:
            return function(**(arguments or {}))
        except InputError:
            raise
        except Exception as problem:
            raise _failed(source, "calling it", problem, error) from problem


def _from_file(path: Path, error: type[InputError]) -> ModuleType:
    if not path.is_file():
        raise error(
            "module",
            expected="the path of a Python file",
            received=f"no file {path}",
            fix="see that the path is right; it is relative to the study file",
        )
    content = path.read_bytes()
    # By content: an unchanged file is imported once, so its classes stay the same objects.
    digest = hashlib.sha256(str(path.resolve()).encode() + content).hexdigest()[:12]
    name = f"litesmith_user_{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    return load_file(name, path)


def load_file(name: str, path: Path) -> ModuleType:
    """Import a Python file under a name of our choosing."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and Keras look a class's module up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


# Folders user code was imported from, in order; `sys.path` has them only meanwhile.
_folders: dict[str, None] = {}


def search_path() -> list[str]:
    """Where another process has to look for what this one imported, user code included."""
    return list(dict.fromkeys([*(entry or os.getcwd() for entry in sys.path), *_folders]))


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let user code import its neighbours, as it does when it is run from its folder."""
    entry = str(folder.resolve())
    _folders[entry] = None
    added = entry not in sys.path
    if added:
        sys.path.insert(0, entry)
    try:
        yield
    finally:
        if added and entry in sys.path:
            sys.path.remove(entry)


def _failed(source: str, doing: str, problem: BaseException, error: type[InputError]) -> InputError:
    text = (str(problem).strip().splitlines() or ["no message"])[0]
    return error(f"{source!r}: {doing} failed with {type(problem).__name__}: {text}")
