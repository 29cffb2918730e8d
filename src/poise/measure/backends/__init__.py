"""One module per engine; each imports its engine late and nowhere else."""
