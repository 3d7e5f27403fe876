"""Benchmarks of speed and quality: both sides of a comparison are measured in one run."""

import os

# Before numpy or torch load: what is compared on one core must not spread over several.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
