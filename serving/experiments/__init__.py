"""Experiments: who sees what, what the evidence says at any moment, and what a candidate would have done."""
