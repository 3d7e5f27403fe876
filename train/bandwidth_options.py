"""Options of the command line that say how a measured uplink is read."""

from __future__ import annotations

import re
from collections.abc import Sequence

OPTIONS = {"--bandwidth-unit": "unit", "--max-gap": "max_gap"}
"""Option of the command line -> option of ``csv:PATH`` in the name of a scenario."""


def into_scenario(args: Sequence[str]) -> list[str]:
    """Move the options into the name of the scenario, which runs keep and can repeat.

    Args:
        args: Words of a command line, such as ``--scenario csv:a.csv --bandwidth-unit kbit/s``.

    Returns:
        The words without these options, such as ``--scenario csv:a.csv+unit=kbit/s``.

    Raises:
        ValueError: An option has no value, or there is no scenario ``csv:PATH`` that it is for.
    """
    words: list[str] = []
    added = ""
    asked = ""
    waiting = iter(args)
    for word in waiting:
        name, equals, value = word.partition("=")
        if name not in OPTIONS:
            words.append(word)
            continue
        if not equals:
            value = next(waiting, "")
        if not value:
            raise ValueError(f"{name} needs a value")
        added += f"+{OPTIONS[name]}={value}"
        asked = name
    if not added:
        return words
    for place, word in enumerate(words):
        is_scenario = word.startswith("--scenario=") or words[place - 1 : place] == ["--scenario"]
        if is_scenario and (csv := re.search(r"(?:^|=|\+)csv:.*?(?=\+[a-z]+:|$)", word)):
            words[place] = word[: csv.end()] + added + word[csv.end() :]
            return words
    raise ValueError(f"{asked} goes with --scenario csv:PATH, a measured uplink")
