"""Rates and connection times: where the network's numbers come from."""
