"""Redo published figures about pipelines: [Harlap2018] (PipeDream) and others."""
