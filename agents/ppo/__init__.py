"""PPO [Schulman2017] through Stable-Baselines3, on the native vector environment."""
