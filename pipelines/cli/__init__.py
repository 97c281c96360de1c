"""The `belfry` command. Nothing heavy is imported until a command runs."""

from pipelines.cli.app import main

__all__ = ["main"]
