"""What the records mean: derive, score, statistics, balanced score, frontier, verdict."""
