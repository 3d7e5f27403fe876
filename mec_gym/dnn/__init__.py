"""What a network costs: layer graphs, devices, profiles of real networks and their exits."""
