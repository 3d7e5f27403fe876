"""This is what every problem shares: the Problem protocol, its two adapters, and traces."""
