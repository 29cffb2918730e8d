"""The run directory: raw, append-only, the only contract between measuring and understanding."""
