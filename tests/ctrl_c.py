"""Ctrl-C at a moment of one's choice in a PPO run."""

import os
import signal

from train.evaluation.tensorboard import Metrics


def interrupt_after(monkeypatch, rollouts):
    """Press Ctrl-C while the given rollout is being collected."""
    ended = Metrics._on_rollout_end
    seen = []

    def press(self):
        seen.append(None)
        if len(seen) == rollouts:
            os.kill(os.getpid(), signal.SIGINT)
        ended(self)

    monkeypatch.setattr(Metrics, "_on_rollout_end", press)
