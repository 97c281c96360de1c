"""Notebooks of each part of Belfry. `make notebooks` executes them and keeps their outputs."""
