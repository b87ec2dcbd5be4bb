"""Models as files: model directories, checkpoints of the official code; files whole or not there."""
