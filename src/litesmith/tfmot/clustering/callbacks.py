"""`ClusteringSummaries`."""

from __future__ import annotations

from typing import Any

import keras

from litesmith.errors import InputError
from litesmith.tfmot.summaries import Figures


class ClusteringSummaries(keras.callbacks.TensorBoard):
    """`keras.callbacks.TensorBoard`, and what clustering has come to.

    For each clustered weight a histogram of the values in use, `clustering/LAYER/WEIGHT`, and the
    number of distinct ones, `LAYER/WEIGHT/clusters_used`; steps are batches.

    Args:
        log_dir: folder of the event files.
        cluster_update_freq: "epoch", "batch", or a number of batches.
        **kwargs: further arguments of `keras.callbacks.TensorBoard`.

    Raises:
        InputError: TensorBoard is not installed, or an argument is wrong.
    """

    def __init__(
        self, log_dir: str = "logs", cluster_update_freq: str | int = "epoch", **kwargs: Any
    ):
        self._figures = Figures("ClusteringSummaries", log_dir)
        every = 1 if cluster_update_freq == "batch" else cluster_update_freq
        if every != "epoch" and (type(every) is not int or every < 1):
            raise InputError(
                "ClusteringSummaries: cluster_update_freq",
                expected="'epoch', 'batch' or a number of batches",
                received=cluster_update_freq,
            )
        super().__init__(log_dir=log_dir, **kwargs)
        self.cluster_update_freq, self.continuous_batch = every, 0

    def _write(self) -> None:
        step = self.continuous_batch
        self._figures.write(self.model, ("clusters_used",), step)
        self._figures.histograms(self.model, "clustering/", step)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts, and writes where that is due."""
        super().on_train_batch_end(batch, logs)
        self.continuous_batch += 1
        every = self.cluster_update_freq
        if isinstance(every, int) and self.continuous_batch % every == 0:
            self._write()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes, where each epoch is asked for."""
        super().on_epoch_end(epoch, logs)
        if self.cluster_update_freq == "epoch":
            self._write()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Closes the file."""
        super().on_train_end(logs)
        self._figures.close()
