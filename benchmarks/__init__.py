"""Measurements of whole commands, side by side with simpler ways. `make bench` runs all of them."""
