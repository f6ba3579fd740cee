"""Evaluation: clips to numbers (floor 3). Never imports training.

``run.evaluate`` is the one way in; ``metrics.METRICS`` is the list of what can be measured.
"""
