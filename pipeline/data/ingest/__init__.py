"""Pictures of a source into a beton, checked and written whole."""
