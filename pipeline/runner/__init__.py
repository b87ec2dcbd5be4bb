"""What the driver does for every stage: found, or run and registered; then promoted."""
