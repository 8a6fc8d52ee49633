"""The whole flow in one script, on scikit-learn's digits: about a minute on two cores.

    python examples/quickstart.py

Train, prune to 80 % zeros, strip, export as int8, evaluate and benchmark the files, compare.
"""

from pathlib import Path

import keras

import litesmith as ls
from litesmith import data, models

OUTPUT = Path("build/quickstart")


def main() -> None:
    keras.utils.set_random_seed(0)
    digits = data.load("digits")
    train, test = digits.train, digits.test

    model = models.load("builtin:digits")
    model.compile(
        keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(train.x, train.y, batch_size=32, epochs=10, verbose=2)

    epochs = 8
    steps = epochs * -(-len(train) // 32)
    schedule = ls.PolynomialDecay(begin_step=0, end_step=steps // 2, frequency=10)
    prepared = ls.prepare(model, ls.Prune(sparsity=0.8, schedule=schedule), steps=steps)
    print(prepared.report)
    prepared.compile(
        keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    prepared.fit(train.x, train.y, batch_size=32, epochs=epochs, verbose=2)
    small = ls.strip(prepared)

    before = ls.export(model, OUTPUT / "baseline.tflite")
    after = ls.export(
        small, OUTPUT / "pruned-int8.tflite", quantize="int8", calibration=train.x[:200]
    )
    measured = []
    for file in (before, after):
        measured.append(ls.evaluate(file, (test.x, test.y), metrics=["accuracy"]))
        measured.append(ls.benchmark(file))
    comparison = ls.compare(measured)
    print("\n".join(comparison.verdict))
    comparison.save(OUTPUT / "report.html")
    print(f"report: {OUTPUT / 'report.html'}")


if __name__ == "__main__":
    main()
