"""Models as files: model directories, and checkpoints of the official code."""
