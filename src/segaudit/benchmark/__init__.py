"""Explainers x networks x data sets x scores, laid side by side."""

from segaudit.benchmark.benchmark import Benchmark
from segaudit.benchmark.network import BenchmarkNetwork

__all__ = ["Benchmark", "BenchmarkNetwork"]
