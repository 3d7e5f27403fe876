"""The pair scorer: a head and a network for (device, place) pairs of distributed inference."""
