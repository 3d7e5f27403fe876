"""Room: place every block of many devices' DNNs on many servers (seed 002, a patent)."""
