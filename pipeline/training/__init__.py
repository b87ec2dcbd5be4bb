"""One stage's training on Ray Train: driver, worker, checkpoints, evaluation."""
