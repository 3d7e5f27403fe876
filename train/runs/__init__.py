"""Training runs: their folder, and the learners that can be interrupted and resumed in it."""
