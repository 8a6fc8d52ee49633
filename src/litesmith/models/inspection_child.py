"""The child that opens a model file first: a corrupt HDF5 file can take its process down."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np

from litesmith.children import serve
from litesmith.errors import ModelError


def _damaged(path: str, why: str) -> ModelError:
    return ModelError(
        path,
        expected="a whole model file",
        received=f"a damaged one: {why}",
        fix="save or copy it again",
    )


def look(fields: dict[str, Any], arrays: Sequence[np.ndarray]) -> tuple[dict[str, Any], list]:
    """Read a `.keras` or `.h5` file whole.

    Args:
        fields: ``path``.
        arrays: none.

    Returns:
        ``config``, the model's configuration as JSON text, or None in a file of weights only;
        ``numbers``, how many its arrays hold.
    """
    path = fields["path"]
    if zipfile.is_zipfile(path):
        config, numbers = _look_keras(path)
        return {"config": config, "numbers": numbers}, []
    text, numbers = _look_h5(path, path)
    if text is not None:
        try:
            json.loads(text)
        except ValueError as error:
            raise _damaged(path, "its configuration is no JSON") from error
    return {"config": text, "numbers": numbers}, []


def _look_keras(path: str) -> tuple[str, int]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            missing = {"config.json", "model.weights.h5"} - set(names)
            if missing:
                raise ModelError(
                    path,
                    expected="a .keras file with config.json and model.weights.h5",
                    received=f"a zip file without {' and '.join(sorted(missing))}",
                    fix="write it with model.save('model.keras')",
                )
            # Reading a member checks its CRC-32.
            config = archive.read("config.json").decode()
            json.loads(config)
            weights = archive.read("model.weights.h5")
            for name in names:
                if not name.endswith("/") and name not in ("config.json", "model.weights.h5"):
                    archive.read(name)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        ValueError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        if isinstance(error, ModelError):
            raise
        raise _damaged(path, " ".join(str(error).split()) or type(error).__name__) from error
    return config, _look_h5(io.BytesIO(weights), path)[1]


def _look_h5(source: Any, path: str) -> tuple[str | None, int]:
    numbers = 0

    def read(name: str, item: Any) -> None:
        nonlocal numbers
        for attribute in item.attrs:
            item.attrs[attribute]
        if isinstance(item, h5py.Dataset):
            item[()]
            numbers += item.size or 0

    try:
        with h5py.File(source, "r") as file:
            file.visititems(read)
            config = file.attrs.get("model_config")
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, MemoryError) as error:
        text = (str(error).strip().splitlines() or ["no message"])[0]
        raise _damaged(path, f"its weights cannot be read ({text})") from error
    if config is None:
        return None, numbers
    return config.decode(errors="replace") if isinstance(config, bytes) else str(config), numbers


if __name__ == "__main__":
    serve({"look": look}, bounded=True)
