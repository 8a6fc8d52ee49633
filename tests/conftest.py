"""What all tests share."""

import gc
import os
from pathlib import Path

# Tracing makes millions of objects that live as long as their graph: looked through less often.
gc.set_threshold(50_000, 20, 50)

# Compiling takes most of the time of a test on JAX; running takes next to none. What one test has
# had compiled, others find: those of the other worker, of child processes, of the next run.
if os.environ.get("KERAS_BACKEND") == "jax":
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    cache = Path(__file__).parents[1] / "build" / "jax-cache"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

# Files that take a minute or more: begun first, so that no worker ends alone with one.
_LONG = "contract examples walkthrough fuzz quantization_fidelity quantization_exact".split()


def pytest_collection_modifyitems(items):
    """Long files first, in their order."""
    items.sort(key=lambda item: not any(name in item.path.name for name in _LONG))
