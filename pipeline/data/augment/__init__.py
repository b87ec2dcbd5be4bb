"""What a recipe has beyond the decoder: on whole batches, on the device that trains."""
