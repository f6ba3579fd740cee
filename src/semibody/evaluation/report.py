"""placeholder"""

from __future__ import annotations

import math


def show(value: float) -> str:
    """A number with four significant digits."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    if value == 0 or 0.001 <= abs(value) < 10000:
        return f"{value:.4g}"
    return f"{value:.2e}"
