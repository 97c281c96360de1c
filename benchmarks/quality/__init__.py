"""Our recipes beside the peers a user would pick instead: same splits, same rows, same evaluator.

`python -m benchmarks.quality [mind] [ml100k] [ibm] [globo]` writes `benchmarks/results/quality-<dataset>.md` and
`.json`. Every method runs in a process of its own, so that its seconds and its peak memory are its own.
"""
