"""Benchmark of quality: animate a test set, measure the clips, hold them against baselines and goals.

``bench``      the recipe, the cases, the run: the file to open first
``baselines``  clips that are not the model's: the portrait repeated, the autoencoder's best, foreign speech
``goals``      the table: measure, baseline, value, interval, goal
"""

from semibody.quality.bench import Benchmark, BenchRecipe, bench_quality, read_cases

__all__ = ["BenchRecipe", "Benchmark", "bench_quality", "read_cases"]
