"""Real learning on small images: what environments need that train a model inside ``step``."""
