"""The commands of `dsnet`, one module each; each defines `command`."""
