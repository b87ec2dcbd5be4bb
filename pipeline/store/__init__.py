"""MLflow: runs, metrics, the registry, and what versions are found again by."""
