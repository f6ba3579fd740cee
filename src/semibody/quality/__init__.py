"""Benchmarks of quality: animate a test set, measure the clips, hold them against baselines and goals.

``bench``        of cases with real clips: the recipe, the cases, the run: the file to open first
``baselines``    clips that are not the model's: the portrait repeated, the autoencoder's best, foreign speech
``photographs``  of a folder of portraits, with nothing to compare with but the portraits themselves
``likeness``     one clip of a photograph against the photograph
``goals``        the table: measure, baseline, value, interval, goal
"""

from semibody.quality.bench import Benchmark, BenchRecipe, bench_quality, read_cases
from semibody.quality.photographs import Album, Photographs, bench_photographs, is_of_photographs

__all__ = [
    "Album",
    "BenchRecipe",
    "Benchmark",
    "Photographs",
    "bench_photographs",
    "bench_quality",
    "is_of_photographs",
    "read_cases",
]
