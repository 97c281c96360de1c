"""Answers: everything that runs beside a trained model. Reads SavedModels, never Keras code."""
