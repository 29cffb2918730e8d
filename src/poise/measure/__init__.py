"""The only room with a clock: backends, load, monitor, workers."""
