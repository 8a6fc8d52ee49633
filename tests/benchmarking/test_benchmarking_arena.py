"""The arena, worked out by hand, and against the runtime's own addresses."""

from __future__ import annotations

import numpy as np
import pytest

from litesmith.benchmarking.arena import arena_bytes, length, lifetimes, plan
from litesmith.export.flatbuffer import Operator, Subgraph, Tensor, read
from tests.evaluation import handmade


def graph(sizes, operators, inputs, outputs, *, variables=(), constants=()):
    """A graph of byte tensors; `operators` are (name, inputs, outputs)."""
    tensors = tuple(
        Tensor(
            index=i,
            name=str(i),
            shape=(size,),
            shape_signature=(size,),
            type="INT8",
            buffer=0,
            stored=size if i in constants else 0,
            scale=None,
            zero_point=None,
            axis=0,
            sparse=False,
            variable=i in variables,
            _load=lambda: None,
        )
        for i, size in enumerate(sizes)
    )
    steps = tuple(Operator(name, tuple(i), tuple(o)) for name, i, o in operators)
    return Subgraph("main", tensors, steps, tuple(inputs), tuple(outputs))


def offsets(each):
    return {a.tensor: a.offset for a in plan(each)}


def test_a_chain_reuses_what_is_free():
    # 0 is the input and stays. The largest of the others, 2, comes next; 1 and 3 are alive with
    # it, but not with each other: both go behind it, at the same place.
    chain = graph(
        [64, 100, 200, 50, 10],
        [("CONV_2D", [0], [1]), ("CONV_2D", [1], [2]), ("CONV_2D", [2], [3]), ("MEAN", [3], [4])],
        [0],
        [4],
    )
    assert offsets(chain) == {0: 0, 2: 64, 1: 64 + 256, 3: 64 + 256, 4: 64}
    assert length(plan(chain)) == 64 + 256 + 100


def test_an_output_written_first_is_placed_with_the_inputs():
    both = graph([10, 20, 30], [("CONV_2D", [0], [1]), ("CONV_2D", [1], [2])], [0], [1, 2])
    assert offsets(both) == {0: 0, 1: 64, 2: 128}


def test_the_smallest_gap_that_fits():
    # The input lies at 0…64. By size come 1 (0…2), 2 (1…3), 3 (2…4), 4 (3…5), then the output.
    # 3 meets 1 and 2 and goes behind them. 4 meets 2 and 3, and 1 is gone: its gap is taken.
    gaps = graph(
        [64, 512, 448, 384, 256, 8],
        [
            ("CONV_2D", [0], [1]),
            ("CONV_2D", [1], [2]),
            ("CONV_2D", [1, 2], [3]),
            ("CONV_2D", [2, 3], [4]),
            ("CONV_2D", [3, 4], [5]),
        ],
        [0],
        [5],
    )
    assert offsets(gaps) == {0: 0, 1: 64, 2: 576, 3: 1024, 4: 64, 5: 320}


def test_variables_live_through_all_and_constants_take_nothing():
    state = graph(
        [8, 100, 40, 8],
        [("FULLY_CONNECTED", [0, 1, 2], [3])],
        [0],
        [3],
        variables=[2],
        constants=[1],
    )
    assert offsets(state) == {0: 0, 2: 64, 3: 128}


def test_operators_that_write_over_their_input():
    def run(name, extra=()):
        return offsets(
            graph(
                [8, 96, 96, 8],
                [("CONV_2D", [0], [1]), (name, [1], [2]), ("MEAN", [2, *extra], [3])],
                [0],
                [3],
            )
        )

    assert 2 in run("CONV_2D")
    assert 2 not in run("ADD") and 2 not in run("RESHAPE")
    assert 2 in run("ADD", extra=[1])  # 1 is still needed
    assert 2 not in run("RESHAPE", extra=[1])  # its data are not changed
    # The model's own input is never written over, nor is an output shared.
    assert len(offsets(graph([64, 64], [("ADD", [0], [1])], [0], [1]))) == 2


def test_what_is_unfolded_from_constants_is_kept():
    content = handmade.model(
        [
            handmade.T("x", (1, 4)),
            handmade.T("w8", (3, 4), "int8", value=np.ones((3, 4)), scale=0.5),
            handmade.T("w", (3, 4)),
            handmade.T("y", (1, 3)),
        ],
        [("DEQUANTIZE", [1], [2], None), ("FULLY_CONNECTED", [0, 2, -1], [3], None)],
        [0],
        [3],
    )
    # x 16 bytes and y 12 behind it at 64; 48 bytes of w in the second arena, rounded up.
    assert arena_bytes(read(content)) == 64 + 12 + 64


def test_shapes_known_beforehand_take_nothing():
    known = graph(
        [64, 4, 4, 64],
        [("SHAPE", [0], [1]), ("STRIDED_SLICE", [1], [2]), ("CONV_2D", [0, 2], [3])],
        [0],
        [3],
    )
    assert set(offsets(known)) == {0, 3}


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs_stay_between_the_bounds(seed):
    rng = np.random.default_rng(seed)
    count = 25
    sizes = rng.integers(1, 3000, count)
    operators = []
    for step in range(1, count):
        reads = {step - 1, int(rng.integers(0, step)), int(rng.integers(max(0, step - 3), step))}
        operators.append(("CONV_2D", sorted(reads), [step]))
    each = graph([int(s) for s in sizes], operators, [0], [count - 1])
    placed = plan(each)
    for a in placed:
        assert a.offset % 64 == 0
        for b in placed:
            if a is not b and a.overlaps(b):
                assert a.offset + a.size <= b.offset or b.offset + b.size <= a.offset
    alive = [
        sum(a.size for a in lifetimes(each) if a.first <= step <= a.last)
        for step in range(len(operators))
    ]
    assert max(alive) <= length(placed) <= sum(-(-a.size // 64) * 64 for a in placed)


def test_the_runtime_lays_it_out_the_same(tmp_path):
    """LiteRT's reference kernels ask for no scratch room: its addresses are our offsets."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    widths = [6, 40, 300, 25, 300, 7, 90]
    rng = np.random.default_rng(0)
    tensors, operators = [handmade.T("x", (1, 6))], []
    last = 0
    for i in range(1, len(widths)):
        shape = (widths[i], widths[i - 1])
        tensors.append(handmade.T(f"w{i}", shape, value=rng.random(shape)))
        tensors.append(handmade.T(f"y{i}", (1, widths[i])))
        dense, own = len(tensors) - 1, len(tensors)
        tensors.append(handmade.T(f"z{i}", (1, widths[i])))
        options = handmade.schema.FullyConnectedOptionsT()
        operators.append(("FULLY_CONNECTED", [last, dense - 1, -1], [dense], options))
        operators.append(("ADD", [dense, dense], [own], handmade.schema.AddOptionsT()))
        last = own
    content = handmade.model(tensors, operators, [0], [last])
    interpreter = Interpreter(
        model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    interpreter.allocate_tensors()
    placed = plan(read(content).subgraphs[0])
    addresses = {
        a.tensor: interpreter.tensor(a.tensor)().__array_interface__["data"][0] for a in placed
    }
    start = addresses[0]
    assert {k: v - start for k, v in addresses.items()} == {a.tensor: a.offset for a in placed}
