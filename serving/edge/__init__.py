"""Recommendations on an edge server, from a bundle of LiteRT files, without TensorFlow, Keras or torch."""
