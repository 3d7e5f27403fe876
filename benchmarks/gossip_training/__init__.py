"""How fast federated training is."""
