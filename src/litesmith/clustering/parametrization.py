"""The codebook that follows training: state, and the in-graph update."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from litesmith.clustering import assignment, core, moments
from litesmith.clustering.initialization import choose
from litesmith.parametrize import Parametrization, counting


@keras.saving.register_keras_serializable("litesmith")
class Codebook(Parametrization):
    """w_used = centroids[index], the centroids being the means of their members.

    The gradient of each weight goes to the stored weight, straight through; so a centroid moves by
    the sum of its members' gradients, over their number, and a weight that is pulled elsewhere
    changes its cluster the next time the nearest are looked for.

    Args:
        clusters: distinct values in a group.
        initialization: a key of `INITIALIZATIONS`.
        assignment: "nearest" or "fixed".
        frequency: training steps from one renewal of the centroids to the next.
        freeze: training step from which on assignments stay; None never.
        channels: output channels in a group; None for one group.
        zero: "free"; "kept", where zeros pass through and no other weight becomes zero;
            "pinned", where one centroid is zero.
        outputs: the kernel's output axes.
        folded: whether the promise is about the folded kernel.
        pruned: whether the zeros are made by a parametrization before this one.
    """

    can_fold = True
    fields = (
        "clusters",
        "initialization",
        "assignment",
        "frequency",
        "freeze",
        "channels",
        "zero",
        "outputs",
        "pruned",
    )

    def __init__(
        self,
        *,
        clusters: int,
        initialization: str,
        assignment: str,
        frequency: int,
        freeze: int | None = None,
        channels: int | None,
        zero: str,
        outputs: tuple[int, ...],
        folded: bool,
        pruned: bool = False,
        **options: Any,
    ):
        super().__init__(**options)
        self.clusters, self.initialization = clusters, initialization
        self.assignment, self.frequency, self.freeze = assignment, frequency, freeze
        self.channels, self.zero, self.pruned = channels, zero, pruned
        self.outputs, self._folded = tuple(outputs), folded
        self.group_ids, self.groups = core.group_ids(self.shape, self.outputs, channels)
        self.moments: moments.Moments | None = None  # only until it starts

    @property
    def folded(self) -> bool:
        """Whether it is about the folded kernel."""
        return self._folded

    def fold(self) -> None:
        """From now on it is about the folded kernel."""
        self._folded = True

    @property
    def makes_few(self) -> bool:  # type: ignore[override]
        """Whether all channels share the codebook, so that a grid must be one for all, too."""
        return self.channels != 1

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, for saving."""
        config = super().get_config()
        return {**config, "outputs": list(self.outputs), "folded": self._folded}

    @property
    def table_shape(self) -> tuple[int, int]:
        """(groups, centroids in a group); a kept zero needs no centroid."""
        return self.groups, max(1, self.clusters - (self.zero == "kept"))

    def follow(self, earlier: list[Parametrization]) -> None:
        """Zeros that come from pruning are kept."""
        if any(link.makes_zeros for link in earlier):
            self.zero, self.pruned = "kept", True

    def create_state(self) -> None:
        """A byte a weight, two a centroid, and the count of training calls."""
        self.index = self.state("index", self.shape, "zeros", "uint8")
        # Room for a codebook without a kept zero, whatever is decided later.
        self.centroids = self.state("centroids", (self.groups, self.clusters), dtype="float16")
        self.size = self.state("size", (self.groups, 1), "ones")
        self.count = self.state("count", (), "zeros", "int32")
        kept = self.centroids, self.size
        self._table = counting.Remembered(self._read, kept)
        self._edges = counting.Remembered(self._read_edges, kept)

    def start(self, weight: np.ndarray) -> np.ndarray | None:
        """Choose centroids for the weight and assign its members.

        Assignments that data have chosen are not the nearest ones of the weights as they were, nor
        are the centroids their means: the weights themselves become what is used. Those that
        nothing depends on have no say in the centroids, and become what is used, too.
        """
        groups = np.broadcast_to(self.group_ids, self.shape)
        if self.zero == "pinned" and (weight == 0).any():
            self.zero = "kept"
        felt = np.ones((1,) * weight.ndim, bool) if self.felt is None else self.felt
        felt = np.broadcast_to(felt, self.shape)
        rows = []
        for group in range(self.groups):
            own = groups == group
            rows.append(self._row(weight[own & felt] if (own & felt).any() else weight[own]))
        table = self._keep(np.stack(rows))
        near = core.nearest(ops.convert_to_tensor(weight), self._table(), self.group_ids)
        index = ops.convert_to_numpy(near)
        moved = None
        if self.moments is not None:
            index, table = self._settled(weight, index, table)
            table = self._keep(table)
            moved = table[groups, index]
        elif not felt.all():
            moved = np.where(felt, weight, table[groups, index])
        self.index.assign(index.astype("uint8"))
        return moved

    def _settled(
        self, weight: np.ndarray, index: np.ndarray, table: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Assignments and centroids that change the layer's outputs least."""
        known, self.moments = self.moments, None
        assert known is not None
        form = known.form
        groups = form.matrix(np.broadcast_to(self.group_ids, self.shape))
        matrix = form.matrix(weight)
        zero = matrix == 0 if self.zero == "kept" else np.zeros(matrix.shape, bool)
        pinned = table == 0 if self.zero == "pinned" else np.zeros(table.shape, bool)
        book = assignment.Book(
            matrix, form.matrix(index).copy(), table.copy(), groups[0], zero, pinned
        )
        assignment.settle(book, known.blocks, known.covariances())
        return book.index.reshape(self.shape), book.tables

    def _row(self, values: np.ndarray) -> np.ndarray:
        count = self.table_shape[1]
        if self.zero == "kept":
            values = values[values != 0]
        if not values.size:
            return np.zeros(count, np.float32)
        if self.zero != "pinned":
            return choose(values, count, self.initialization)
        row = choose(values, count, self.initialization)
        row[np.abs(row).argmin()] = 0.0
        return np.sort(row)

    def _stored(self, table: Any) -> tuple[Any, Any]:
        """The table as it is stored: float16, over its largest centroid, which is float32.

        Where a zero is kept it has a last, unused column.
        """
        size = ops.max(ops.abs(table), axis=1, keepdims=True)
        size = ops.where(size > 0, size, ops.ones_like(size))
        missing = self.clusters - table.shape[1]
        return core.halves(ops.pad(table / size, ((0, 0), (0, missing)))), size

    def _read(self, stored: tuple[Any, Any] | None = None) -> Any:
        """A stored table, or the one there is, float32, as it is used."""
        shares, size = stored or (self.centroids, self.size)
        return ops.cast(shares, "float32")[:, : self.table_shape[1]] * size

    def _read_edges(self) -> Any:
        """Where the clusters of the table end."""
        return core.edges(self._table())

    def _keep(self, table: np.ndarray) -> np.ndarray:
        """Store a table; returns it as it is from now on."""
        stored = self._stored(ops.convert_to_tensor(table, "float32"))
        self.centroids.assign(stored[0])
        self.size.assign(stored[1])
        return ops.convert_to_numpy(self._read())

    def _means(self, weight: Any, index: Any, table: Any) -> Any:
        """The mean of each cluster's members."""
        shape = self.table_shape
        groups = self.group_ids
        # Not ones: TensorFlow would keep them for good, as large as the weights.
        one = ops.not_equal(weight, 0.0) if self.zero == "kept" else ops.equal(weight, weight)
        present = ops.cast(one, weight.dtype)
        counts = core.member_sums(present, index, groups, shape)
        means = core.means(core.member_sums(weight, index, groups, shape), counts, table)
        if self.zero == "pinned":
            means = ops.where(ops.equal(table, 0.0), 0.0, means)
        return means

    def _followed(self, weight: Any, index: Any, step: Any) -> Any:
        """Members that have crossed the middle to the next centroid are its members now."""

        def walk() -> Any:
            return core.walk(weight, self._edges(), index, self.group_ids)

        if self.freeze is None:
            return walk()
        return counting.choose(step < self.freeze, walk, lambda: index)

    def _renewed(self, weight: Any, index: Any, table: Any, due: Any) -> Any:
        """The table, of the means of its members where that is due."""
        kept = ops.copy(self.centroids), ops.copy(self.size)
        kept = counting.choose(
            due,
            lambda: self._stored(ops.sort(self._means(weight, index, table), 1)),
            lambda: kept,
        )
        self.centroids.assign(kept[0])
        self.size.assign(kept[1])
        return self._read(kept)

    def transform(self, weight: Any, training: bool) -> Any:
        """Each weight's centroid; in training assignments and centroids are updated first."""
        index, table = ops.copy(self.index), self._table()
        if training:
            stored = ops.cast(ops.stop_gradient(weight), "float32")
            count = counting.calls(self.count)
            if self.assignment == "nearest":
                index = self._followed(stored, index, count // self.calls_per_step)
                self.index.assign(index)
            due = counting.divides(self.frequency * self.calls_per_step, count)
            if due is not False:
                table = self._renewed(stored, index, table, due)
            counting.counted(self.count, count)
        used = ops.cast(core.gather(table, index, self.group_ids), weight.dtype)
        # w + stop(used − w) would not be exact in floats.
        used = ops.stop_gradient(used) + (weight - ops.stop_gradient(weight))
        if self.zero == "kept":
            zero = weight if self.pruned else ops.zeros_like(weight)
            used = ops.where(ops.equal(weight, 0.0), zero, used)
        return used

    def progress(self) -> dict[str, Any]:
        """Distinct values in use, over the whole kernel, and training steps seen."""
        table = ops.convert_to_numpy(self._table())
        index = ops.convert_to_numpy(self.index) + self.group_ids * table.shape[1]
        used = np.unique(table.ravel()[np.unique(index)])
        steps = int(ops.convert_to_numpy(self.count)) // self.calls_per_step
        return {"clusters_used": len(used), "steps": steps}
