"""Models as files: model directories, the official code's checkpoints; files whole or not there."""
