"""What all tests share."""

import os

# Compiling takes most of the time of a test on JAX; running takes next to none.
if os.environ.get("KERAS_BACKEND") == "jax":
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
