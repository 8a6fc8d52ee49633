"""What the bytes of a tensor stand for: element types, packed bits, sparse encodings."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

_DTYPES = {
    "FLOAT32": "<f4",
    "FLOAT16": "<f2",
    "FLOAT64": "<f8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "BOOL": "?",
    "COMPLEX64": "<c8",
    "COMPLEX128": "<c16",
}
_PACKED_BITS = {"INT4": 4, "UINT4": 4, "INT2": 2}

# Elements one tensor's data may unfold to (2 GiB of float32).
_MAX_ELEMENTS = 1 << 29
# Places there may be for each value stored sparse, where they are many: a corrupt shape would keep
# us busy for minutes.
_MOST_ZEROS, _SMALL = 1 << 12, 1 << 22


def _numbers(values: Any) -> tuple[int, ...]:
    # The reader answers 0 for an absent vector.
    return () if isinstance(values, int) else tuple(int(value) for value in values)


def values(raw: np.ndarray, kind: str, shape: tuple[int, ...], sparsity: Any) -> np.ndarray | None:
    """Unfold a buffer.

    Args:
        raw: the buffer's bytes.
        kind: the element type's name in the schema.
        shape: the tensor's shape.
        sparsity: the schema's `SparsityParameters`, or None where stored dense.

    Returns:
        An array of that shape: a view of `raw` where it is stored as it is used; int8 where 4 or
        2 bits are packed; None for types numpy has no word for.

    Raises:
        ValueError: the bytes are not what the shape or the sparse encoding says.
    """
    size = int(np.prod(shape, dtype=np.int64))
    if size > _MAX_ELEMENTS:
        raise ValueError(f"{size} elements")
    if kind in _PACKED_BITS:
        flat = _unpacked(raw, _PACKED_BITS[kind], signed=kind[0] != "U")
        # The last byte may hold padding.
        flat = flat if sparsity is not None else flat[:size]
    elif kind in _DTYPES:
        flat = raw.view(_DTYPES[kind])
    elif kind == "BFLOAT16":
        flat = (raw.view("<u2").astype("<u4") << 16).view("<f4")
    else:
        return None
    if sparsity is not None:
        if size > max(_SMALL, flat.size * _MOST_ZEROS):
            raise ValueError(f"{flat.size} values for {size} places")
        return _densified(flat, shape, sparsity)
    if flat.size != size:
        raise ValueError(f"{flat.size} values where the shape {list(shape)} wants {size}")
    return flat.reshape(shape)


def _unpacked(raw: np.ndarray, bits: int, *, signed: bool) -> np.ndarray:
    """Unfold values packed several to a byte, the first in the low bits."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    values = ((raw[:, None] >> shifts) & ((1 << bits) - 1)).reshape(-1).astype(np.int8)
    if signed:
        half = 1 << (bits - 1)
        values = ((values ^ half) - half).astype(np.int8)
    return values


def _densified(values: np.ndarray, shape: tuple[int, ...], sparsity: Any) -> np.ndarray:
    """Unfold a tensor stored sparse (TACO's encoding: each dimension dense or compressed).

    Blocks (dimensions split in two) are stored as extra dimensions at the end of the traversal.
    """
    order = _numbers(sparsity.TraversalOrderAsNumpy())
    blocks = _numbers(sparsity.BlockMapAsNumpy())
    metadata = [sparsity.DimMetadata(i) for i in range(sparsity.DimMetadataLength())]
    if sorted(order) != list(range(len(shape) + len(blocks))) or len(metadata) != len(order):
        raise ValueError("a sparse encoding that does not fit the shape")
    block_sizes = [metadata[order.index(len(shape) + i)].DenseSize() for i in range(len(blocks))]
    sizes = list(shape) + block_sizes
    for block, size in zip(blocks, block_sizes, strict=True):
        if size <= 0 or sizes[block] % size:
            raise ValueError("a sparse encoding that does not fit the shape")
        sizes[block] //= size
    # Walk level by level: `places[d]` is the coordinate along dimension d of each open path.
    places = np.zeros((1, 0), np.int64)
    for dimension, level in zip(order, metadata, strict=True):
        if level.Format() == schema.DimensionType.DENSE:
            steps = np.tile(np.arange(sizes[dimension]), len(places))
            places = np.repeat(places, sizes[dimension], axis=0)
        else:
            segments = _index_vector(level.ArraySegmentsType(), level.ArraySegments())
            steps = _index_vector(level.ArrayIndicesType(), level.ArrayIndices())
            counts = np.diff(segments)
            if len(counts) != len(places) or (counts < 0).any() or counts.sum() != len(steps):
                raise ValueError("a sparse encoding whose segments do not fit")
            places = np.repeat(places, counts, axis=0)
        if len(places) > _MAX_ELEMENTS:
            raise ValueError("a sparse encoding that unfolds without end")
        places = np.concatenate([places, steps[:, None].astype(np.int64)], axis=1)
    if len(places) != len(values):
        raise ValueError(f"{len(values)} values for {len(places)} places")
    coordinates = [places[:, order.index(d)] for d in range(len(shape))]
    for i, block in enumerate(blocks):
        inner = places[:, order.index(len(shape) + i)]
        coordinates[block] = coordinates[block] * block_sizes[i] + inner
    dense = np.zeros(shape, values.dtype)
    dense[tuple(coordinates)] = values
    return dense


def index_bytes(sparsity: Any) -> int:
    """What the schema's `SparsityParameters` take for saying where the values belong."""
    levels = [sparsity.DimMetadata(i) for i in range(sparsity.DimMetadataLength())]
    compressed = [each for each in levels if each.Format() != schema.DimensionType.DENSE]
    return sum(
        _stored_vector(kind, table).nbytes
        for level in compressed
        for kind, table in (
            (level.ArraySegmentsType(), level.ArraySegments()),
            (level.ArrayIndicesType(), level.ArrayIndices()),
        )
    )


def _index_vector(kind: int, table: Any) -> np.ndarray:
    return np.asarray(_stored_vector(kind, table), np.int64)


def _stored_vector(kind: int, table: Any) -> np.ndarray:
    classes = {
        schema.SparseIndexVector.Int32Vector: schema.Int32Vector,
        schema.SparseIndexVector.Uint16Vector: schema.Uint16Vector,
        schema.SparseIndexVector.Uint8Vector: schema.Uint8Vector,
    }
    vector = classes[kind]()
    vector.Init(table.Bytes, table.Pos)
    return np.asarray(vector.ValuesAsNumpy())


def distinct(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values that occur, flat, and how often each does.

    Values are told apart by their bits: NaN and −0 are values like others, and sorting is over
    integers, or none at all where they are small.
    """
    plain = np.ascontiguousarray(values).reshape(-1)
    size = plain.dtype.itemsize
    if size in (1, 2):
        counts = np.bincount(plain.view(f"u{size}"))
        found = np.flatnonzero(counts)
        return found.astype(f"u{size}").view(plain.dtype), counts[found]
    if size in (4, 8):
        found, counts = np.unique(plain.view(f"u{size}"), return_counts=True)
        return found.view(plain.dtype), counts
    return np.unique(plain, return_counts=True)
