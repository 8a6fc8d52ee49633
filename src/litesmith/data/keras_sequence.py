"""A split as the `PyDataset` Keras trains on. Apart, because this is where Keras is imported."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from litesmith.data.dataset import Split


class SplitSequence(keras.utils.PyDataset):
    """Batches of a `Split`; shuffled anew each epoch by its own seed where asked.

    `model.fit`'s own shuffling draws from the backend's generator: its order differs between
    backends and with whatever ran before. This one depends on the seed and the epoch alone.

    Args:
        split: the samples.
        batch_size: samples a batch; the last one may be smaller.
        shuffle: whether every epoch has an order of its own.
        seed: of those orders.
    """

    def __init__(self, split: Split, batch_size: int, shuffle: bool, seed: int):
        super().__init__(workers=1, use_multiprocessing=False)
        self.split, self.batch_size, self.shuffle, self.seed = split, batch_size, shuffle, seed
        self._epoch = 0
        self._order = self._draw()

    def __len__(self) -> int:
        return -(-len(self.split) // self.batch_size)

    def __getitem__(self, index: int) -> Any:
        start = index * self.batch_size
        part = self._order[start : start + self.batch_size]
        x, y = self.split.x, self.split.y
        inputs = (
            {name: array[part] for name, array in x.items()} if isinstance(x, dict) else x[part]
        )
        return (inputs,) if y is None else (inputs, y[part])

    def on_epoch_end(self) -> None:
        """Keras calls this between epochs."""
        self._epoch += 1
        self._order = self._draw()

    def _draw(self) -> np.ndarray:
        count = len(self.split)
        if not self.shuffle:
            return np.arange(count)
        return np.random.default_rng([self.seed, self._epoch]).permutation(count)
