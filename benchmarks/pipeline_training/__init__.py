"""Speed of pipeline training: the clock over all plans, and what is solved with it."""
