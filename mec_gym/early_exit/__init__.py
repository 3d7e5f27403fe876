"""Room: pick an exit and a partition of a DNN graph, frame by frame (seed 001, DAPDEE)."""
