"""What a chain will take, before it: work, time, storage, memory. Nothing here writes a file."""
