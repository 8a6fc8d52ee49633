"""Where centroids start: five ways to choose a codebook for a list of numbers.

The default, "optimal", is the best one-dimensional k-means: an exact dynamic program over a
weighted histogram (Wang and Song, "Ckmeans.1d.dp", 2011), then Lloyd's iterations on all the
numbers until nothing moves. Sorted numbers and prefix sums make an iteration cost clusters · log n,
so a million weights take a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# Bins of the histogram that the dynamic program works on, for a whole kernel and for a channel.
_BINS = 1024
_MAX_LLOYD = 1000


def choose(values: np.ndarray, clusters: int, how: str, seed: int = 0) -> np.ndarray:
    """Choose centroids for some numbers.

    Args:
        values: the numbers, any shape, finite.
        clusters: how many centroids.
        how: a key of `INITIALIZATIONS`.
        seed: for those that draw.

    Returns:
        `clusters` float32 numbers in ascending order. They are distinct as long as the values have
        that many distinct ones; beyond, the last is repeated.
    """
    flat = np.sort(np.asarray(values, np.float64).ravel())
    distinct = np.unique(flat)
    if len(distinct) <= clusters:
        found = distinct
    else:
        found = INITIALIZATIONS[how](flat, clusters, np.random.default_rng(seed))
        found = _completed(np.unique(found), distinct, clusters)
    found = found.astype(np.float32)
    return np.concatenate([found, np.repeat(found[-1:], clusters - len(found))])


def _completed(found: np.ndarray, distinct: np.ndarray, clusters: int) -> np.ndarray:
    """Exactly so many centroids: what is missing is put where the values are farthest off."""
    while len(found) < clusters:
        middles = (found[1:] + found[:-1]) / 2
        off = np.abs(distinct - found[np.searchsorted(middles, distinct)])
        found = np.sort(np.append(found, distinct[off.argmax()]))
    return found


def linear(flat: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Evenly spaced from the smallest to the largest (Han et al., "Deep compression", 2016)."""
    return np.linspace(flat[0], flat[-1], clusters)


def random(flat: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Numbers drawn from the values ("Forgy")."""
    return rng.choice(np.unique(flat), clusters, replace=False)


def density(flat: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Quantiles: the same number of values around each."""
    return np.quantile(flat, (np.arange(clusters) + 0.5) / clusters)


def kmeans_plus_plus(flat: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Drawn far from each other (Arthur and Vassilvitskii, "k-means++", 2007), from a histogram."""
    from sklearn.cluster import kmeans_plusplus

    points, weights = _histogram(flat, max(_BINS, 4 * clusters))
    seed = int(rng.integers(2**31))
    seeds, _ = kmeans_plusplus(points[:, None], clusters, sample_weight=weights, random_state=seed)
    return seeds.ravel()


def optimal(flat: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """The centroids of least squared error: a dynamic program, then Lloyd to convergence."""
    return lloyd(flat, _by_dynamic_program(*_histogram(flat, _BINS), clusters))


def lloyd(flat: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Lloyd's iterations until no value changes its centroid.

    Args:
        flat: ascending float64 numbers.
        centroids: ascending; where to start.

    Returns:
        As many centroids, ascending; one without values stays where it was.
    """
    sums = np.concatenate([[0.0], np.cumsum(flat)])
    bounds = None
    for _ in range(_MAX_LLOYD):
        cuts = np.searchsorted(flat, (centroids[1:] + centroids[:-1]) / 2, side="right")
        if bounds is not None and np.array_equal(cuts, bounds[1:-1]):
            break
        bounds = np.concatenate([[0], cuts, [len(flat)]])
        counts = np.diff(bounds)
        totals = np.diff(sums[bounds])
        centroids = np.where(counts > 0, totals / np.maximum(counts, 1), centroids)
    return centroids


def _histogram(flat: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Means and weights of bins: half of them of equal width, half of equal mass."""
    if len(flat) <= bins:
        return flat, np.ones(len(flat))
    edges = np.concatenate(
        [np.linspace(flat[0], flat[-1], bins // 2), np.quantile(flat, np.linspace(0, 1, bins // 2))]
    )
    cuts = np.unique(np.searchsorted(flat, np.unique(edges)))
    bounds = np.unique(np.concatenate([[0], cuts, [len(flat)]]))
    sums = np.concatenate([[0.0], np.cumsum(flat)])
    counts = np.diff(bounds)
    return np.diff(sums[bounds]) / counts, counts.astype(np.float64)


def _by_dynamic_program(points: np.ndarray, weights: np.ndarray, clusters: int) -> np.ndarray:
    """Exact k-means of weighted, ascending points."""
    count = len(points)
    if count <= clusters:
        return points
    mass = np.concatenate([[0.0], np.cumsum(weights)])
    first = np.concatenate([[0.0], np.cumsum(weights * points)])
    # cost[i, j]: squared error of the points i … j − 1 about their mean, less their squares, which
    # every partition has in common.
    with np.errstate(divide="ignore", invalid="ignore"):
        cost = -((first[None, :] - first[:, None]) ** 2) / (mass[None, :] - mass[:, None])
    cost[np.tril_indices(count + 1)] = np.inf
    best = cost[0]
    starts = []
    for _ in range(1, clusters):
        total = best[:, None] + cost
        start = total.argmin(axis=0)
        best = total[start, np.arange(count + 1)]
        starts.append(start)
    end, bounds = count, [count]
    for start in reversed(starts):
        end = int(start[end])
        bounds.append(end)
    bounds = [0, *reversed(bounds)]
    return np.diff(first[bounds]) / np.diff(mass[bounds])


INITIALIZATIONS: dict[str, Callable[[np.ndarray, int, np.random.Generator], np.ndarray]] = {
    "optimal": optimal,
    "linear": linear,
    "random": random,
    "density": density,
    "kmeans++": kmeans_plus_plus,
}
