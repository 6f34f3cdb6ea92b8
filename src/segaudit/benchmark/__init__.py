"""Benchmark: compares explainers over networks, data sets and scores."""

from segaudit.benchmark.benchmark import Benchmark
from segaudit.benchmark.network import BenchmarkNetwork

__all__ = ["Benchmark", "BenchmarkNetwork"]
