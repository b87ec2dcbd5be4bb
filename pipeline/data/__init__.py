"""Pictures on their way into a network: sources, FFCV files, loaders."""
