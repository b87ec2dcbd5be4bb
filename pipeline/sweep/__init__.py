"""Sweeps over targets. Empty: a trial's process imports neither MLflow nor FFCV."""
