"""What a `.tflite` costs to run: latency, load time, memory, sizes, and what a delegate takes.

    speed = benchmark("small.tflite", runs=100)
    speed.latency_ms["p50"], speed.memory["peak_rss"]

Every repeat runs in a fresh process.
"""

from litesmith.benchmarking.arena import arena_bytes
from litesmith.benchmarking.bench import Benchmark, benchmark
from litesmith.benchmarking.machine import machine
from litesmith.benchmarking.sizes import sizes

__all__ = ["Benchmark", "arena_bytes", "benchmark", "machine", "sizes"]
