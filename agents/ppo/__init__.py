"""PPO through Stable-Baselines3, on the native vector environment."""
