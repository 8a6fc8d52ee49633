"""Child processes that do what could take a process down, or need another backend.

A child is `python -m some.module` that calls `serve` with its handlers. Parent and child speak
over the child's standard input and output: a JSON header, then the raw bytes of numpy arrays.
Nothing is pickled. What native libraries print to standard output goes to standard error, which
is kept, so that a child that dies can be quoted.

    with Child("litesmith.evaluation.litert_child") as child:
        answer, outputs = child.call("invoke", arrays=[batch], model="small.tflite")
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np

from litesmith import errors
from litesmith.errors import ChildError, LitesmithError

Message = tuple[dict[str, Any], list[np.ndarray]]
Handler = Callable[[dict[str, Any], list[np.ndarray]], tuple[dict[str, Any], Sequence[np.ndarray]]]

_LENGTH = struct.Struct("<Q")
# What a bounded child may have in any case: threads reserve addresses they never use.
_LEAST_MEMORY = 2 << 30


def _send(stream: IO[bytes], header: Mapping[str, Any], arrays: Sequence[np.ndarray]) -> None:
    arrays = [np.asarray(array, order="C") for array in arrays]
    specs = [[array.dtype.str, list(array.shape)] for array in arrays]
    text = json.dumps({"header": header, "arrays": specs}).encode()
    stream.write(_LENGTH.pack(len(text)))
    stream.write(text)
    for array in arrays:
        stream.write(array.reshape(-1).view(np.uint8).data if array.size else b"")
    stream.flush()


def _read_exactly(stream: IO[bytes], count: int) -> bytearray:
    data = bytearray(count)
    view, done = memoryview(data), 0
    while done < count:
        got = stream.readinto(view[done:])  # type: ignore[attr-defined]
        if not got:
            raise EOFError
        done += got
    return data


def _receive(stream: IO[bytes]) -> Message:
    (length,) = _LENGTH.unpack(_read_exactly(stream, _LENGTH.size))
    message = json.loads(bytes(_read_exactly(stream, length)))
    arrays = []
    for dtype, shape in message["arrays"]:
        kind = np.dtype(dtype)
        raw = _read_exactly(stream, kind.itemsize * int(np.prod(shape, dtype=np.int64)))
        arrays.append(np.frombuffer(raw, kind).reshape(shape))
    return message["header"], arrays


_PARENT = "LITESMITH_PARENT"  # environment: the process that a child must not outlive


def serve(handlers: Mapping[str, Handler], *, bounded: bool = False) -> None:
    """Answer calls until the parent closes the pipe: the main loop of a child.

    Args:
        handlers: by method name; each takes the call's fields and arrays, and returns fields and
            arrays. A `LitesmithError` it raises is raised again in the parent, by class.
        bounded: whether to have no more memory than the machine has to spare: where a file that
            somebody brought asks for more, the child fails, and not the machine.
    """
    _follow(int(os.environ.get(_PARENT, os.getppid())))
    if bounded:
        _bound_memory()
    requests = os.fdopen(os.dup(0), "rb", buffering=1 << 20)
    answers = os.fdopen(os.dup(1), "wb", buffering=1 << 20)
    os.dup2(2, 1)  # what libraries print must not reach the protocol
    while True:
        try:
            fields, arrays = _receive(requests)
        except EOFError:
            return
        method = fields.pop("method")
        try:
            result, output = handlers[method](fields, arrays)
        except LitesmithError as error:
            problem = {"error": type(error).__name__, "message": str(error)}
            _send(answers, problem, [])
        except Exception as error:  # noqa: BLE001  the parent decides what it means
            text = str(error).strip() or "no message"
            problem = {"error": "ChildError", "message": f"{type(error).__name__}: {text}"}
            _send(answers, problem, [])
        else:
            _send(answers, {"result": result}, output)


def _follow(parent: int) -> None:
    """End this process soon after its parent, also in the middle of a call (POSIX)."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _bound_memory() -> None:
    """Limit the address space to what it is now and what the machine has free (Linux)."""
    try:
        import resource

        with open("/proc/meminfo") as file:
            free = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable"))
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        limit = used + max(free * 1024, _LEAST_MEMORY)
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    except (ImportError, OSError, ValueError, StopIteration):
        pass  # no such system: the file then gets what it asks for


class Child:
    """A running child process; a context manager.

    Args:
        module: dotted name of the module that calls `serve`.
        environment: variables added to (or, where None, removed from) the parent's.
        timeout: seconds one call may take before the child is killed; None waits forever.
    """

    def __init__(
        self,
        module: str,
        *,
        environment: Mapping[str, str | None] | None = None,
        timeout: float | None = None,
    ):
        merged = dict(os.environ)
        merged.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        merged[_PARENT] = str(os.getpid())
        merged["PYTHONPATH"] = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        for name, value in (environment or {}).items():
            if value is None:
                merged.pop(name, None)
            else:
                merged[name] = value
        self.module, self.timeout = module, timeout
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=merged,
            bufsize=1 << 20,
        )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process is still there."""
        return self._process.poll() is None

    def call(
        self, method: str, arrays: Sequence[np.ndarray] = (), **fields: Any
    ) -> tuple[dict[str, Any], list[np.ndarray]]:
        """Have the child do something and wait for the answer.

        Args:
            method: the handler's name.
            arrays: numpy arrays sent along, any dtype but object.
            **fields: anything JSON can hold.

        Returns:
            The answer's fields and arrays.

        Raises:
            ChildError: the child died (its last words are quoted), hung past `timeout`, or failed
                with something that is no `LitesmithError`.
            LitesmithError: raised by the handler, of the same class.
        """
        try:
            header, output = self._exchange({"method": method, **fields}, arrays)
        except (EOFError, OSError, ValueError, struct.error) as error:
            raise self._death() from error
        if "error" in header:
            kind = getattr(errors, header["error"], ChildError)
            raise kind(header["message"])
        return header["result"], output

    def _exchange(self, header: dict[str, Any], arrays: Sequence[np.ndarray]) -> Message:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        if self.timeout is None:
            _send(stdin, header, arrays)
            return _receive(stdout)
        answer: queue.Queue[Message | BaseException] = queue.Queue()

        def work() -> None:
            try:
                _send(stdin, header, arrays)
                answer.put(_receive(stdout))
            except BaseException as error:  # noqa: BLE001  handed to the caller
                answer.put(error)

        threading.Thread(target=work, daemon=True).start()
        try:
            got = answer.get(timeout=self.timeout)
        except queue.Empty:
            self._process.kill()
            self._process.wait()
            raise ChildError(
                f"{self.module} did not answer within {self.timeout:.0f} s and was stopped"
            ) from None
        if isinstance(got, BaseException):
            raise got
        return got

    def _death(self) -> ChildError:
        try:
            code: int | None = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        last = next((line.strip() for line in reversed(lines) if line.strip()), "no last words")
        cause = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return ChildError(f"{self.module} died ({cause}): {last[:500]}")

    def close(self) -> None:
        """End the child; it may be called twice."""
        stdin, stdout = self._process.stdin, self._process.stdout
        try:
            if stdin is not None:
                stdin.close()
        except OSError:
            pass
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if stdout is not None:
            stdout.close()
        self._errors.close()


_pool = threading.Lock()
_idle: dict[str, Child] = {}


@contextlib.contextmanager
def kept(module: str, *, timeout: float | None = None) -> Iterator[Child]:
    """A child that is started when first needed, and then waits for the next who asks.

    One with which anything went wrong is not used again.

    Args:
        module: as for `Child`.
        timeout: seconds one call may take before the child is killed; None waits forever.
    """
    with _pool:
        child = _idle.pop(module, None)
    if child is not None and not child.alive:
        child.close()
        child = None
    child = child or Child(module)
    child.timeout = timeout
    try:
        yield child
    except BaseException:
        child.close()
        raise
    with _pool:
        if _idle.setdefault(module, child) is child:
            return
    child.close()


@atexit.register
def _close_idle() -> None:
    while _idle:
        _idle.popitem()[1].close()
