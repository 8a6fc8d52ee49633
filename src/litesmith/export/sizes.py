"""How large a `.tflite` is: as it lies on the device, as a download, and at the least.

``entropy`` is what an ideal coder of single weights would need:

    Σ over constant tensors  n · H / 8   +   the remainder of the file, raw

in bytes, where n is the number of values stored and H = −Σ p·log2 p the entropy of their
distribution in bits (Shannon 1948). It leaves out the table of values, which is what makes it a
lower bound for coding each weight on its own; a coder that sees patterns can go below it. It is
no bound at all for a tensor of so few values that its table would be most of it; counted all the
same, since such tensors are few bytes. Buffers that several tensors share count once, as in the
file.
"""

from __future__ import annotations

import math
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from litesmith.export import tensor_data
from litesmith.export.flatbuffer import Flatbuffer, Tensor, read


def sizes(source: str | os.PathLike[str] | bytes, view: Flatbuffer | None = None) -> dict[str, int]:
    """Size of a `.tflite`, in bytes.

    Args:
        source: the file's path, or its content.
        view: the same, where it has been read already.

    Returns:
        ``file`` as it is; ``zip`` after zlib at level 9; ``entropy`` the lower bound from the
        weights' entropy.

    Raises:
        ModelError: the file is missing, or is no `.tflite`.
    """
    model = read(source) if view is None else view
    content = source if isinstance(source, bytes) else Path(source).read_bytes()
    with ThreadPoolExecutor(1) as beside_it:  # zlib leaves the interpreter to others meanwhile
        zipped = beside_it.submit(zlib.compress, content, 9)
        constants = model.constants()
        stored = sum(tensor.stored for tensor in constants)
        ideal = sum(ideal_bytes(tensor) for tensor in constants)
    return {
        "file": len(content),
        "zip": len(zipped.result()),
        "entropy": math.ceil(len(content) - stored + ideal),
    }


def ideal_bytes(tensor: Tensor) -> float:
    """Bytes an ideal coder needs for a constant's values, never more than are stored.

    A tensor stored sparse counts with the zeros it leaves out: to code which values are zero is
    part of the work, however it is done.
    """
    if tensor.data is None:
        return float(tensor.stored)
    bits = tensor.data.size * _entropy(tensor.distinct[1])
    return min(float(tensor.stored), bits / 8)


def entropy(values: np.ndarray) -> float:
    """Entropy of the values' distribution, in bits a value: ``−Σ p·log2 p``."""
    return _entropy(tensor_data.distinct(values)[1])


def _entropy(counts: np.ndarray) -> float:
    if not counts.size:
        return 0.0
    shares = counts / counts.sum()
    return float(abs((shares * np.log2(shares)).sum()))
