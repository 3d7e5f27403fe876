"""Networks that lie in a file of torch: exported programs and saved modules. No code runs."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from mec_gym.core.checks import reason_of

SUFFIXES = (".pt", ".pt2", ".pth")
"""How the names of such files end."""
_INSTEAD = "name a module that builds the network, as MODULE[:FACTORY]"


def load_network(place: str, content: bool) -> nn.Module:
    """Load a network from a file that ``torch.export.save`` or ``torch.save`` wrote.

    Of saved modules only those are taken that consist of modules of ``torch.nn``: no code of
    the file is run.

    Args:
        place: The file.
        content: Whether the weights are needed; if not, those of saved modules are not read.

    Raises:
        ValueError: There is no such file, or it holds no network that can be taken.
    """
    path = Path(place)
    if not path.is_file():
        raise ValueError(f"there is no file {place}")
    try:
        with zipfile.ZipFile(path) as archive:
            inside = [name.partition("/")[2] for name in archive.namelist()]
    except zipfile.BadZipFile:
        raise ValueError(f"{place} is no file of torch.export.save or torch.save") from None
    if any(name.startswith("code/") for name in inside):
        raise ValueError(f"{place} was made by torch.jit, which hides what it computes; {_INSTEAD}")
    try:
        if "data.pkl" not in inside:
            return torch.export.load(path).module()
        found = _saved(path, content)
    except Exception as error:
        foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
        if foreign:
            raise ValueError(
                f"{place} holds a {foreign[1]}, whose code is not in the file; {_INSTEAD}"
            ) from error
        raise ValueError(f"{place} cannot be read: {reason_of(error)}") from error
    if not isinstance(found, nn.Module):
        raise ValueError(f"{place} holds a {type(found).__name__} and no network; {_INSTEAD}")
    return found


def _saved(path: Path, content: bool) -> object:
    known: list[Any] = [one for one in vars(nn).values() if isinstance(one, type)]
    known += [NonDynamicallyQuantizableLinear, functional.relu, functional.gelu, set]
    with torch.serialization.safe_globals(known):
        where = "cpu" if content else "meta"
        loaded: object = torch.load(path, weights_only=True, map_location=where)
    return loaded
