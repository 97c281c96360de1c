"""From a champion and fresh events to a candidate: dataset, warm start, gate, export, registry; killed, it resumes."""

from pipelines.retraining.gate import Lead, SliceLead, Verdict
from pipelines.retraining.steps import Retrained, retrain

__all__ = ["Lead", "Retrained", "SliceLead", "Verdict", "retrain"]
