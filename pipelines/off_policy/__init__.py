"""What a candidate would have earned, from the answers that a gateway left partly to chance."""

from pipelines.off_policy.estimate import Estimate, estimate, estimate_lines

__all__ = ["Estimate", "estimate", "estimate_lines"]
