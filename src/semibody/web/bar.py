"""One bar for all stages of a clip: how much of the work is done, and how long the rest takes.

bar = Bar({"prepare": 1.0, "denoise": 12.0, "decode": 4.0}, report)     # estimated seconds
bar("denoise", 3, 10)                                                   # reports 0.27, "denoise"
remaining(look.share, look.seconds, look.expected)                           # seconds
"""

from __future__ import annotations

from collections.abc import Mapping

from semibody.web.jobs import Report

LEAST_SHARE = 0.08
"""From this share of the work on its own speed says more than the estimate."""


class Bar:
    """The Progress of a whole clip: stages count by their estimated seconds.

    Stages may be under way at once; one that has told nothing counts as done once a later one has begun."""

    def __init__(self, seconds: Mapping[str, float], report: Report) -> None:
        self._seconds, self._report = dict(seconds), report
        self._done: dict[str, float] = {}
        self.preview: bytes | None = None
        """A picture that goes with the next report."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """As ``types.Progress``; a stage that is not among the estimates counts nothing."""
        self._done[stage] = min(done / max(total, 1), 1.0)
        names = list(self._seconds)
        begun = names.index(stage) if stage in names else 0
        of_stages = (self._done.get(name, float(n < begun)) for n, name in enumerate(names))
        made = sum(seconds * share for seconds, share in zip(self._seconds.values(), of_stages, strict=True))
        preview, self.preview = self.preview, None
        expected = sum(self._seconds.values())
        self._report(made / max(expected, 1e-9), stage, preview=preview, expected=expected)


def remaining(share: float, seconds: float, estimate: float) -> float:
    """Seconds that are left, after ``seconds`` for ``share`` of the work; first by ``estimate``, then by its
    own speed."""
    by_estimate = max(estimate * (1.0 - share), 1.0)
    if share < LEAST_SHARE:
        return max(by_estimate, estimate - seconds, 1.0)
    own = seconds / share * (1.0 - share)
    trust = min((share - LEAST_SHARE) / 0.2, 1.0)
    return (1.0 - trust) * by_estimate + trust * own
