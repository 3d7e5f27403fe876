"""Early exit: cuts of real networks, exactly and by search."""
