"""What a candidate would have earned, from the answers that a gateway left partly to chance."""

from pipelines.off_policy.estimate import Estimate, estimate_lines, estimate_off_policy

__all__ = ["Estimate", "estimate_off_policy", "estimate_lines"]
