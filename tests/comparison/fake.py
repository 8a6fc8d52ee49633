"""A study like a real one: eight variants of the built-in digits network."""

import numpy as np

from litesmith.comparison import StudyResult
from litesmith.data import Split
from litesmith.study import changed

LAYERS = [("conv2d", 144), ("conv2d_1", 4608), ("conv2d_2", 9216), ("dense", 320)]
RECIPES = {
    "pruned-50": [{"technique": "prune", "sparsity": 0.5}],
    "pruned-80": [{"technique": "prune", "sparsity": 0.8}],
    "pruned-80-int8": [{"technique": "prune", "sparsity": 0.8}],
    "pruned-2-4": [{"technique": "prune", "granularity": {"n": 2, "m": 4}}],
}
# name, preset, right of 359, file, zip, entropy, zeros, p50, p95, peak, arena
ROWS = [
    ("baseline", "float32", 354, 61_320, 55_870, 53_600, 0.0, 0.0214, 0.0239, 1_410_000, 8_448),
    ("float16", "float16", 354, 33_104, 28_390, 27_010, 0.0, 0.0221, 0.0252, 1_480_000, 8_448),
    (
        "dynamic",
        "dynamic_int8",
        354,
        20_456,
        15_660,
        13_980,
        0.01,
        0.0197,
        0.0226,
        1_390_000,
        9_216,
    ),
    ("int8", "int8", 353, 20_912, 15_820, 13_990, 0.01, 0.0128, 0.0141, 1_350_000, 2_304),
    ("pruned-50", "float32", 355, 61_320, 33_910, 31_200, 0.5, 0.0215, 0.0244, 1_410_000, 8_448),
    ("pruned-80", "float32", 348, 61_320, 18_430, 15_640, 0.8, 0.0213, 0.0238, 1_410_000, 8_448),
    ("pruned-80-int8", "int8", 347, 20_912, 7_310, 5_690, 0.8, 0.0127, 0.0143, 1_350_000, 2_304),
    ("pruned-2-4", "float32", 352, 61_320, 36_020, 32_440, 0.5, 0.0216, 0.0241, 1_410_000, 8_448),
]


def study(**changes) -> StudyResult:
    variants = []
    for name, preset, right, file, zipped, entropy, zeros, p50, p95, peak, arena in ROWS:
        width = {"float32": 4, "float16": 2}.get(preset, 1)
        kinds = {"float32": "float32", "float16": "float16"}
        pruned = name.startswith("pruned")
        variants.append(
            {
                "name": name,
                "recipe": RECIPES.get(name, []),
                "quantize": preset,
                "metrics": {"accuracy": right / 359, "loss": 0.06 + (355 - right) * 0.004},
                "keras_metrics": {"accuracy": right / 359},
                "agreement": 1.0 if width > 1 else 357 / 359,
                "size": {"file": file, "zip": zipped, "entropy": entropy},
                "sparsity": zeros,
                "unique_weights": 255 if width == 1 else 8_917,
                "latency_ms": {"p50": p50, "p95": p95},
                "load_ms": 0.61 + width / 10,
                "memory": {"peak_rss": peak, "arena": arena},
                "seconds": {
                    "prepare": 0.1,
                    "fit": 6.2 if pruned else 0.0,
                    "export": 1.9,
                    "evaluate": 0.2,
                    "benchmark": 1.4,
                },
                "artifact": f"{name}.tflite",
                "sha256": "0" * 64,
                "layers": [
                    {
                        "layer": layer,
                        "variable": f"{layer}/kernel",
                        "tensor": f"digits/{layer}/convolution;{layer}",
                        "dtype": kinds.get(preset, "int8"),
                        "size": count,
                        "zeros": 0
                        if layer == "conv2d" and name == "pruned-2-4"
                        else round(zeros * count),
                        "unique": min(count, 255 if width == 1 else count),
                        "bytes": count * width,
                        "pruned": pruned,
                    }
                    for layer, count in LAYERS
                ],
                "notes": ["conv2d/kernel: skipped by prune, 1 input channel cannot take 2:4"]
                if name == "pruned-2-4"
                else [],
            }
        )
    return StudyResult.model_validate(
        {
            "schema": 1,
            "litesmith": "0.1.0",
            "keras": "3.15.1",
            "backend": "tensorflow",
            "machine": {
                "cpu": "Intel Xeon",
                "cores": 2,
                "memory": 25_000_000_000,
                "system": "Linux 6.1",
                "python": "3.11.9",
            },
            "model": {"source": "builtin:digits", "parameters": 14_618},
            "data": {
                "name": "digits",
                "sizes": {"train": 1258, "validation": 180, "test": 359},
                "input_shape": [8, 8, 1],
                "classes": 10,
                "class_names": list("0123456789"),
                "sha256": "24220b0a",
                "notes": [],
            },
            "variants": variants,
            "command": "litesmith study -o build/demo",
            **changes,
        }
    )


def pictured() -> StudyResult:
    """The same with pictures whose answer changed."""
    given = study()
    rng = np.random.default_rng(0)
    for number, variant in enumerate(given.variants[1:]):
        before, labels = rng.integers(0, 10, (2, 30))
        images = Split(rng.random((30, 8, 8, 1)).astype(np.float32), labels)
        after = np.where(np.arange(30) < number, (before + 1) % 10, before)
        variant.changed = changed.compare(before, after, images)
    given.data["class_names"] = ["an exceptionallylongclassname" + digit for digit in "0123456789"]
    return given
