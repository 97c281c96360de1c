"""The peers, by family. A peer fits a `Training` and returns what ranks any view."""
