"""A3C (Mnih et al. 2016) and multi-task A3C (seed 002) on native vector environments."""
