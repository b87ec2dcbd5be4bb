"""What carries the stages: data, Ray Train, Ray Tune, MLflow, reports."""
