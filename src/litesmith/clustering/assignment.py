"""Which centroid each weight takes, so that the layer's outputs change least.

To round each weight to its nearest centroid makes the least error in the weights. What counts is
the error in the outputs, Σ d'Hd over the outputs' errors d, with H the second moments of the
inputs: as neighbouring inputs are much alike, errors should cancel among them. Weights are visited
one by one, each takes the centroid that serves best given all others (coordinate descent; the
objective is that of GPTQ, Frantar et al., 2022), and the centroids are solved for in between (least
squares).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

_SWEEPS = 6
_DAMPING = 0.01  # of the mean of H's diagonal, added to it
_STRIP = 64  # rows between which the effect of changes is brought up to date at once
# Solving for centroids costs inputs² · centroids an output: left out for many centroids, and done
# by some of the outputs where there are many.
_MOST_CENTROIDS, _OUTPUTS = 32, 64


@dataclasses.dataclass
class Book:
    """Weights as a matrix, their codebooks, and who takes what.

    Attributes:
        weights: float32 [rows, columns].
        index: positions in a row of `tables`, int [rows, columns].
        tables: centroids, float32 [groups, clusters], each row ascending.
        groups: which row of `tables` each column takes its values from, int [columns].
        fixed: weights that stay as they are (zeros that are kept), bool [rows, columns].
        pinned: centroids that stay, bool of the tables' shape.
    """

    weights: np.ndarray
    index: np.ndarray
    tables: np.ndarray
    groups: np.ndarray
    fixed: np.ndarray
    pinned: np.ndarray

    def used(self) -> np.ndarray:
        """The values in use."""
        return np.where(self.fixed, self.weights, self.tables[self.groups[None], self.index])


def settle(
    book: Book, blocks: Sequence[np.ndarray], moments: Sequence[np.ndarray], sweeps: int = _SWEEPS
) -> tuple[float, float]:
    """Choose assignments and centroids for the least change of the outputs, in place.

    Args:
        book: the weights, assigned to their nearest centroids.
        blocks: rows of the matrix that are seen together.
        moments: for each block H, float32 [1, rows, rows], or [columns, rows, rows] where columns
            have inputs of their own.
        sweeps: how often each weight is visited at most.

    Returns:
        The change of the outputs before and after, Σ d'Hd.
    """
    moments = [_damped(each) for each in moments]
    first = _change(book, blocks, moments)
    best, kept = first, (book.index.copy(), book.tables.copy())
    for _ in range(sweeps):
        changed = sum(_visit(book, rows, each) for rows, each in zip(blocks, moments, strict=True))
        _solve(book, blocks, moments)
        now = _change(book, blocks, moments)
        if now < best:
            best, kept = now, (book.index.copy(), book.tables.copy())
        if changed < 1e-3 * book.weights.size:
            break
    book.index, book.tables = kept
    return first, best


def _damped(moments: np.ndarray) -> np.ndarray:
    mean = np.einsum("nii->n", moments) / moments.shape[1]
    more = np.maximum(_DAMPING * mean, 1e-12)[:, None, None]
    return moments + more * np.eye(moments.shape[1], dtype=np.float32)


def _times(moments: np.ndarray, values: np.ndarray) -> np.ndarray:
    """H times each column: [rows, columns]."""
    if len(moments) == 1:
        return moments[0] @ values
    return np.einsum("nij,jn->in", moments, values, optimize=True)


def _change(book: Book, blocks: Sequence[np.ndarray], moments: Sequence[np.ndarray]) -> float:
    error = book.used() - book.weights
    return float(
        sum(
            (error[rows] * _times(each, error[rows])).sum(dtype=np.float64)
            for rows, each in zip(blocks, moments, strict=True)
        )
    )


def _visit(book: Book, rows: np.ndarray, moments: np.ndarray) -> int:
    """Let each weight of a block choose once; returns how many changed."""
    tables = book.tables[book.groups]  # [columns, clusters]
    columns = np.arange(len(tables))
    middles = (tables[:, 1:] + tables[:, :-1]) / 2
    one = len(book.tables) == 1
    slope = _times(moments, (book.used() - book.weights)[rows])
    diagonal = np.einsum("nii->in", moments)  # [rows, 1 or columns]
    changed = 0
    for start in range(0, len(rows), _STRIP):
        strip = slice(start, start + _STRIP)
        moves = np.zeros((len(rows[strip]), len(columns)), np.float32)
        for place, row in enumerate(rows[strip]):
            number = start + place
            near = moments[:, number, strip]  # what the strip's rows do to this one
            told = (near @ moves)[0] if len(moments) == 1 else np.einsum("nj,jn->n", near, moves)
            present = tables[columns, book.index[row]]
            target = present - (slope[number] + told) / diagonal[number]
            if one:
                chosen = np.searchsorted(middles[0], target)
            else:
                chosen = (middles < target[:, None]).sum(axis=1)
            chosen = np.where(book.fixed[row], book.index[row], chosen)
            moves[place] = tables[columns, chosen] - present
            changed += int(np.count_nonzero(chosen != book.index[row]))
            book.index[row] = chosen
        if len(moments) == 1:
            slope += moments[0][:, strip] @ moves
        else:
            slope += np.einsum("nij,jn->in", moments[:, :, strip], moves, optimize=True)
    return changed


def _solve(book: Book, blocks: Sequence[np.ndarray], moments: Sequence[np.ndarray]) -> None:
    """The centroids that change the outputs least, assignments being as they are."""
    clusters = book.tables.shape[1]
    if clusters > _MOST_CENTROIDS:
        return
    for group in range(len(book.tables)):
        columns = np.flatnonzero(book.groups == group)
        columns = columns[:: max(1, len(columns) // _OUTPUTS)]
        left, right = np.zeros((clusters, clusters)), np.zeros(clusters)
        free = ~book.fixed[:, columns]
        members = (book.index[:, columns, None] == np.arange(clusters)) & free[..., None]
        for rows, each in zip(blocks, moments, strict=True):
            for number, column in enumerate(columns):
                chosen = members[rows, number].astype(np.float32)
                pulled = each[0 if len(each) == 1 else column] @ chosen
                left += chosen.T @ pulled
                right += pulled.T @ np.where(free[rows, number], book.weights[rows, column], 0.0)
        # A centroid that the outputs do not feel stays where it is, near enough.
        weight = 1e-6 * max(np.trace(left) / clusters, 1e-12)
        left[np.diag_indices(clusters)] += weight
        right += weight * book.tables[group]
        stays = book.pinned[group]
        found = book.tables[group].astype(np.float64)
        if not stays.all():
            right = right - left[:, stays] @ found[stays]
            found[~stays] = np.linalg.solve(left[np.ix_(~stays, ~stays)], right[~stays])
        order = np.argsort(found, kind="stable")
        place = np.argsort(order, kind="stable")
        every = book.groups == group
        book.index[:, every] = place[book.index[:, every]]
        book.tables[group] = found[order]
        book.pinned[group] = stays[order]
