"""Scenarios by their names: presets, files, and single fields that differ."""

from dataclasses import dataclass, replace

import pytest

from mec_gym.core.checks import check_fields
from mec_gym.core.entry import Entry
from mec_gym.core.presets import Preset


@dataclass(frozen=True)
class Scenario:
    size: float = 1.0
    count: int = 3
    word: str = "some"
    limit: float | None = None
    pair: tuple[float, float] = (1.0, 2.0)
    read: str = ""
    more: str = ""

    def __post_init__(self):
        check_fields(
            self, positive=("size",), positive_int=("count",), at_most={"count": "size_of_all"}
        )

    @property
    def size_of_all(self):
        return 100


def from_list(path, scenario=None, unit="m"):
    return replace(scenario or Scenario(), read=f"{path} in {unit}")


def from_map(path, scenario=None):
    return replace(scenario or Scenario(), more=path)


def alone(path):
    return Scenario(read=path)


ENTRY = Entry(
    about="",
    problem=object,
    scenario_type=Scenario,
    presets={"one": Preset(Scenario, ""), "large": Preset(lambda: Scenario(size=9.0), "")},
    default="one",
    sources={"list": from_list, "map": from_map, "alone": alone},
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("large", Scenario(size=9.0)),
        ("large+count=7", Scenario(size=9.0, count=7)),
        ("one+size=2.5+count=4+word=any", Scenario(size=2.5, count=4, word="any")),
        ("one+size=4", Scenario(size=4)),
        ("one+limit=0.5", Scenario(limit=0.5)),
        ("one+limit=None", Scenario()),
        ("one+pair=(3, 4.5)", Scenario(pair=(3, 4.5))),
        ("one+word=a=b", Scenario(word="a=b")),
        ("one+word=", Scenario(word="")),
        ("list:a.csv", Scenario(read="a.csv in m")),
        ("list:a.csv+unit=km+count=7", Scenario(read="a.csv in km", count=7)),
        ("list:a.csv+count=7+unit=km", Scenario(read="a.csv in km", count=7)),
        ("list:a+b.csv+map:c", Scenario(read="a+b.csv in m", more="c")),
        ("map:c+size=2+list:a+unit=km", Scenario(size=2, read="a in km", more="c")),
        ("large+map:c", Scenario(size=9.0, more="c")),
        ("large+count=7+list:a+unit=km", Scenario(size=9.0, count=7, read="a in km")),
        ("moon", None),
        ("moon+count=7", None),
        ("list:", None),
        ("one+large", None),
        ("map:c+one", Scenario(more="c+one")),  # it may be the name of a file
    ],
)
def test_names(text, expected):
    assert ENTRY.named(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("one+length=3", r"scenario 'one\+length=3': there is no option or field 'length'"),
        ("one+unit=km", "no option or field 'unit'"),
        ("map:c+unit=km", "no option or field 'unit'"),
        ("one+count=0", "count must be a whole number of at least 1, got 0"),
        ("one+count=many", "count must be a whole number of at least 1, got 'many'"),
        ("one+count=101", "count must be at most size_of_all = 100, got 101"),
        ("one+size=-1", "size must be positive, got -1"),
        ("list:a+list:b", "list cannot be added once more"),
        ("one+alone:a", "alone cannot be added to what stands before"),
        ("map:c+alone:a", "alone cannot be added to what stands before"),
        ("list:a+scenario=one", "list has no option 'scenario'"),
    ],
)
def test_wrong_names(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        ENTRY.named(text)
    assert "\n" not in str(caught.value)


def test_what_can_be_named():
    assert ENTRY.names.startswith("one, large, list:PATH, map:PATH, alone:PATH (each also with ")
    assert replace(ENTRY, sources={}).named("large+count=2") == Scenario(size=9.0, count=2)


def test_problems_without_fields_of_a_scenario():
    entry = replace(ENTRY, scenario_type=dict, presets={"one": Preset(dict, "")}, sources={})
    assert entry.named("one") == {}
    with pytest.raises(ValueError, match="no option or field 'size'"):
        entry.named("one+size=3")
