"""Training, evaluation and comparison, on the command line and from Python."""
