"""What fine-tuning costs: beside a plain Keras loop, part by part, and as the catalogue grows."""
