"""The same metrics on Keras models and `.tflite` files, and how far two models agree.

    result = evaluate("small.tflite", (x, y), metrics=["accuracy", "loss"], reference=model)
    result["accuracy"], result.agreement

`runner` opens either kind of model behind one protocol; a `.tflite` runs in a child process.
"""

from litesmith.evaluation.classes import agreement
from litesmith.evaluation.evaluator import Evaluation, evaluate, predict
from litesmith.evaluation.runners import Runner, runner
from litesmith.evaluation.specs import TensorSpec

__all__ = ["Evaluation", "Runner", "TensorSpec", "agreement", "evaluate", "predict", "runner"]
