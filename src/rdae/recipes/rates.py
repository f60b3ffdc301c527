"""The range of rates that every codec recipe covers."""

from __future__ import annotations

__all__ = ["LAM", "QUALITY_LAM", "lam_of_step"]


def lam_of_step(step: float) -> float:
    """lam (nats per squared unit) whose best rounding step is `step` 8-bit grey levels."""
    return 6.0 * (255.0 / step) ** 2


LAM = (lam_of_step(165.0), lam_of_step(2.9))  # in training, a little beyond what quality reaches
QUALITY_LAM = (lam_of_step(160.0), lam_of_step(3.0))  # quality 0 and quality 100
