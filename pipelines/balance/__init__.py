"""What training adds to the log, and how its positives count: the recipe's sections `balance` and `augmentation`."""

from pipelines.balance.steps import Additions, additions

__all__ = ["Additions", "additions"]
