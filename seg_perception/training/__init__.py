"""Datasets, losses, metrics, training, evaluation and export; needs the `train` extra."""
