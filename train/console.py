"""Tables on the console."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table


def show_table(table: Table) -> None:
    """Print a table; where the output is no terminal, it may be 160 columns wide."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    console.print(table)
