"""The agents of pipeline training."""
