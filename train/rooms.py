"""The user's own problems on the command line: ``mec-gym --import MODULE``."""

from __future__ import annotations

from mec_gym.core.modules import look_in
from mec_gym.registration import register_room


def import_room(module: str) -> None:
    """Register a module with a problem; the current directory may hold it.

    Args:
        module: The dotted name of the module.

    Raises:
        ValueError: There is no such module, it raises an error, or it has no environments.
    """
    look_in()
    try:
        register_room(module)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"--import {module}: {type(error).__name__}: {error}") from error
