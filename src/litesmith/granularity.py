"""What is the unit: single weights, groups of them, blocks, whole channels.

All are about the canonical view of a kernel, [outputs, spatial, inputs], which is how LiteRT lays
out convolution and fully-connected weights.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from litesmith.errors import RecipeError
from litesmith.options import Option, whole_number


@dataclasses.dataclass(frozen=True, kw_only=True)
class Granularity(Option):
    """Base of the granularities."""

    family: ClassVar[str] = "granularity"

    def refuses(self, outputs: int, spatial: int, inputs: int) -> str | None:
        """Why a kernel of this canonical shape cannot be taken, or None.

        Args:
            outputs: output channels.
            spatial: positions of the window; 1 for a dense kernel.
            inputs: input channels; 0 where the kernel has none (depthwise, embeddings).
        """
        return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unstructured(Granularity):
    """Single weights."""

    name: ClassVar[str] = "unstructured"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerTensor(Granularity):
    """The whole kernel as one."""

    name: ClassVar[str] = "per_tensor"


@dataclasses.dataclass(frozen=True, init=False)
class NOfM(Granularity):
    """At most `n` of each `m` consecutive weights along the input channels are non-zero.

    `NOfM(2, 4)` is the 2:4 sparsity of Mishra et al., "Accelerating sparse deep neural networks"
    (2021); any n:m can be asked.

    Args:
        n: weights kept in a group, 1 up to m.
        m: weights in a group.

    Raises:
        RecipeError: numbers out of range.
    """

    name: ClassVar[str] = "n_of_m"

    n: int
    m: int

    def __init__(self, n: int, m: int):
        object.__setattr__(self, "n", n)
        object.__setattr__(self, "m", m)
        whole_number("n_of_m: m", m, least=2)
        if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n < m:
            raise RecipeError(
                "n_of_m: n",
                expected=f"a whole number from 1 to {m - 1}, the weights kept of each {m}",
                received=n,
                fix="2:4 sparsity is NOfM(2, 4)",
            )

    @property
    def sparsity(self) -> float:
        """Share of zeros it comes to: 1 − n/m."""
        return 1.0 - self.n / self.m

    def refuses(self, outputs: int, spatial: int, inputs: int) -> str | None:
        """Kernels whose input channels are no multiple of `m`."""
        if not inputs:
            return f"it has no input channels to take {self.n} of each {self.m} from"
        if inputs % self.m:
            return f"its {inputs} input channels are no multiple of {self.m}"
        return None


@dataclasses.dataclass(frozen=True, init=False)
class PerBlock(Granularity):
    """Blocks of weights at one position of the window, zero or kept together.

    Args:
        size: consecutive input channels in a block, or (outputs, inputs) for a two-dimensional
            block.
        pooling: how a block is ranked: the "average" or the "max" of its magnitudes.

    Raises:
        RecipeError: blocks of a single weight, or another pooling.
    """

    name: ClassVar[str] = "per_block"

    size: int | tuple[int, int]
    pooling: str = "average"

    def __init__(self, size: int | tuple[int, int], pooling: str = "average"):
        if isinstance(size, list):
            size = tuple(size)
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "pooling", pooling)
        pair = size if isinstance(size, tuple) else (1, size)
        if len(pair) != 2:
            raise RecipeError(
                "per_block: size",
                expected="a number of input channels, or (outputs, inputs)",
                received=size,
            )
        for value in pair:
            whole_number("per_block: size", value, least=1)
        if pair == (1, 1):
            raise RecipeError(
                "per_block: size",
                expected="blocks of two weights or more",
                received=size,
                fix="single weights are Unstructured()",
            )
        if pooling not in ("average", "max"):
            raise RecipeError("per_block: pooling", expected="'average' or 'max'", received=pooling)

    @property
    def block(self) -> tuple[int, int]:
        """(outputs, inputs) of a block."""
        return self.size if isinstance(self.size, tuple) else (1, self.size)

    def refuses(self, outputs: int, spatial: int, inputs: int) -> str | None:
        """Kernels that the blocks do not tile."""
        high, wide = self.block
        if not inputs:
            return "it has no input channels to lay blocks along"
        if outputs % high:
            return f"its {outputs} output channels are no multiple of the block's {high}"
        if inputs % wide:
            return f"its {inputs} input channels are no multiple of the block's {wide}"
        return None


@dataclasses.dataclass(frozen=True, init=False)
class PerChannel(Granularity):
    """Whole channels.

    Args:
        axis: -1 for output channels, -2 for input rows, whatever the layer's own order of axes.

    Raises:
        RecipeError: another axis.
    """

    name: ClassVar[str] = "per_channel"

    axis: int = -1

    def __init__(self, axis: int = -1):
        object.__setattr__(self, "axis", axis)
        if axis not in (-1, -2) or isinstance(axis, bool):
            raise RecipeError(
                "per_channel: axis",
                expected="-1 (output channels) or -2 (input rows)",
                received=axis,
            )

    def refuses(self, outputs: int, spatial: int, inputs: int) -> str | None:
        """Kernels without input rows, where those are asked for."""
        if self.axis == -2 and not inputs:
            return "it has no input rows"
        return None


@dataclasses.dataclass(frozen=True, init=False)
class PerChannelGroup(Granularity):
    """Groups of consecutive output channels.

    Args:
        channels: output channels in a group; the last may have fewer.

    Raises:
        RecipeError: no whole number from 1.
    """

    name: ClassVar[str] = "per_channel_group"

    channels: int

    def __init__(self, channels: int):
        object.__setattr__(self, "channels", channels)
        whole_number("per_channel_group: channels", channels, least=1)


def granularity_from(value: Any) -> Granularity:
    """A granularity, or what a file says of one."""
    if isinstance(value, Granularity):
        return value
    return Granularity.from_dict(value)
