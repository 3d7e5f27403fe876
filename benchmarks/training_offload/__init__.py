"""Training offload: the closed form, and sparrow search against a published one."""
