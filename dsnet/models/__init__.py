"""Networks as data: architectures, widths, the families and how one is made by name."""
