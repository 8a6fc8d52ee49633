"""The count of training calls, and what is done in some of them only.

In a compiled step the count is a tensor and what hangs on it a branch of the graph. PyTorch runs
operator by operator: there each of these would be launched, and each branch would wait for the
device. So there the count is known as a number, what is not due is not done, and the functions here
take and give numbers and bools as well as tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from litesmith.parametrize import internals

# Of a variable: its `id`, as it may be copied; what was `written`; and the number in it.
_KNOWN = "_litesmith_known"


def calls(count: keras.Variable) -> Any:
    """How many calls were counted: a number where that asks nothing of the device, or a tensor.

    Args:
        count: int32 variable without a shape.
    """
    number = _number(count)
    return ops.copy(count) if number is None else number


def counted(count: keras.Variable, before: Any) -> None:
    """Count one more call.

    Args:
        count: the variable.
        before: what `calls` gave.
    """
    if isinstance(before, int):
        internals.add_one(count)
        _know(count, before + 1)
    else:
        count.assign(before + 1)


def same(number: Any, other: int) -> Any:
    """Whether a number, or an int32 tensor, is this one."""
    return number == other if isinstance(number, int) else ops.equal(number, other)


def divides(period: int, number: Any) -> Any:
    """Whether a number, or an int32 tensor, is a multiple of the period."""
    return same(number % period, 0)


def both(first: Any, second: Any) -> Any:
    """Whether two conditions hold, bools or boolean tensors."""
    if isinstance(first, bool):
        return second if first else False
    return ops.logical_and(first, second)


def either(first: Any, second: Any) -> Any:
    """Whether one of two conditions holds, bools or boolean tensors."""
    if isinstance(first, bool):
        return True if first else second
    return ops.logical_or(first, second)


def choose(due: Any, then: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
    """What one of two functions gives: `then` where it is due, a bool or a boolean tensor."""
    if isinstance(due, bool):
        return then() if due else otherwise()
    return ops.cond(due, then, otherwise)


def select(condition: Any, then: Any, otherwise: Any) -> Any:
    """One of two tensors: the first where the condition holds, a bool or a boolean tensor."""
    if isinstance(condition, bool):
        return then if condition else otherwise
    return ops.where(condition, then, otherwise)


class Remembered:
    """What was made of some variables, until they are written to; made anew in compiled steps.

    Args:
        make: makes it, a tensor or several that no gradient goes through.
        variables: what it is made of.
    """

    def __init__(self, make: Callable[[], Any], variables: Sequence[keras.Variable]):
        self._make, self._variables = make, tuple(variables)
        self._of: list[tuple[Any, Any]] = []
        self._value: Any = None

    def __call__(self) -> Any:
        """It, as it is now."""
        known = self.known()
        return self._make() if known is None else known

    def known(self) -> Any:
        """It, as it is now; None where that is not known before the step is run."""
        now = []
        for variable in self._variables:
            found = internals.written(variable)
            if found is None:
                return None
            now.append(found)
        if len(now) != len(self._of) or not all(map(_is_the_same, now, self._of)):
            self._of, self._value = now, self._make()
        return self._value


def _number(count: Any) -> int | None:
    """The number in a variable; None where only the compiled step or the device has it."""
    now = internals.written(count)
    if now is None:
        return None
    whose, then, number = vars(count).get(_KNOWN, (0, (None, ()), 0))
    # Whatever else has written to the variable, as loading does, left another version of it.
    if whose != id(count) or not _is_the_same(now, then):
        number = int(now[0])  # waits for the device
        _know(count, number)
    return number


def _know(count: Any, number: int) -> None:
    now = internals.written(count)
    if now is not None:
        internals.set_plainly(count, _KNOWN, (id(count), now, number))


def _is_the_same(now: tuple[Any, Any], then: tuple[Any, Any]) -> bool:
    return now[0] is then[0] and now[1] == then[1]
