"""The training algorithms of the paper, in plain torch."""
