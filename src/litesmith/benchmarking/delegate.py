"""Which operators a delegate (XNNPACK) takes, and which are left to LiteRT's own kernels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any


def taken(operators: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Tell a graph's operators apart: delegated, or left.

    LiteRT keeps the original operators in its list and adds one DELEGATE for each part it handed
    over, so the parts are found again by walking from a DELEGATE's outputs back to its inputs.

    Args:
        operators: an interpreter's `_get_ops_details()`: ``op_name``, ``inputs``, ``outputs``.

    Returns:
        ``name`` of the delegate, or None where nothing was handed over; ``operators`` in all;
        ``delegated``, how many of them; ``left``: count by operator, most frequent first.
    """
    own = [each for each in operators if each["op_name"] != "DELEGATE"]
    producers = {int(t): i for i, each in enumerate(own) for t in each["outputs"]}
    delegated: set[int] = set()
    for part in operators:
        if part["op_name"] != "DELEGATE":
            continue
        border = {int(t) for t in part["inputs"]}
        queue = [int(t) for t in part["outputs"]]
        while queue:
            producer = producers.get(queue.pop())
            if producer is None or producer in delegated:
                continue
            delegated.add(producer)
            queue.extend(int(t) for t in own[producer]["inputs"] if int(t) not in border)
    left = Counter(each["op_name"] for i, each in enumerate(own) if i not in delegated)
    return {
        "name": "XNNPACK" if delegated else None,
        "operators": len(own),
        "delegated": len(delegated),
        "left": dict(sorted(left.items(), key=lambda item: (-item[1], item[0]))),
    }
