"""A3C [Mnih2016] and multi-task A3C [Li2024] on native vector environments."""
