"""tfmot's public names on litesmith's techniques: `import litesmith.tfmot as tfmot`.

The names, signatures and defaults are those of tfmot 0.8.1 (TensorFlow Model Optimization Toolkit,
Keras 2 only); what they do is done by `Prune`, `Cluster` and `Quantize`, for Keras 3. The table of
names, and what is different, is docs/from-tfmot.md.
"""

from litesmith.tfmot import clustering, experimental, quantization, sparsity

__all__ = ["clustering", "experimental", "quantization", "sparsity"]
