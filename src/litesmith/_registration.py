"""Making Keras know the classes that stand in a saved prepared model.

`import litesmith` may come before or after `import keras`, and must not import Keras itself, or
`litesmith --help` would take seconds. So stand-ins are registered as soon as Keras is there; asked
to load something, a stand-in imports the room of the real class, which takes its place.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

# Each class that a saved model can name, and its home. A test compares this with what is
# registered when every room is imported.
SAVED = {
    "Annotation": "litesmith.tfmot.quantization.annotating",
    "Codebook": "litesmith.clustering.parametrization",
    "Grid": "litesmith.quantization.parametrization",
    "HardSwish": "litesmith.quantization.hard_swish",
    "Holder": "litesmith.parametrize.parametrization",
    "Marked": "litesmith.parametrize.marking",
    "Mask": "litesmith.pruning.parametrization",
    "NormFreeze": "litesmith.quantization.freezing",
    "Operator": "litesmith.parametrize.operators",
    "FakeQuantizing": "litesmith.tfmot.quantization.converting",
    "Parametrized": "litesmith.parametrize.swap",
    "Pending": "litesmith.tfmot.layerwise",
    "Range": "litesmith.quantization.ranges",
    "Sum": "litesmith.quantization.summing",
}


def register() -> None:
    """Register the stand-ins now, or once Keras is imported."""
    if "keras" in sys.modules:
        _register_stand_ins()
    else:
        sys.meta_path.insert(0, _AfterKeras())


def _register_stand_ins() -> None:
    import keras

    for name, module in SAVED.items():
        if keras.saving.get_registered_object(f"litesmith>{name}") is None:
            keras.saving.register_keras_serializable("litesmith", name)(_stand_in(name, module))


def _stand_in(name: str, module: str) -> type:
    class StandIn:
        """Loads the real class when it is needed."""

        def get_config(self) -> dict[str, Any]:
            """Asked for by Keras of whatever is registered; a stand-in is never an instance."""
            return {}

        @classmethod
        def from_config(cls, config: dict[str, Any]) -> Any:
            """What the real class makes of the config."""
            return getattr(importlib.import_module(module), name).from_config(config)

    StandIn.__name__ = name
    return StandIn


class _AfterKeras:
    """An import hook that waits for Keras, and goes."""

    def __init__(self) -> None:
        self.busy = False

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Keras's own spec, with the registration behind its execution; None for all else."""
        if name != "keras" or self.busy:
            return None
        self.busy = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.busy = False
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            sys.meta_path.remove(self)
            execute(module)
            _register_stand_ins()

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
