"""Dataclasses from plain data."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pytest

from mec_gym.core.plain import from_plain


@dataclass(frozen=True)
class Wheel:
    inches: float
    spokes: int = 32


@dataclass(frozen=True)
class Track:
    metres: float


@dataclass(frozen=True)
class Bike:
    name: str
    gears: tuple[int, ...] = (1, 2)
    size: tuple[float, str] = (1.0, "m")
    runs_on: Wheel | Track | None = None
    spare: tuple[Wheel, ...] | Track = ()
    parts: Mapping[str, Wheel | Track] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    extra: Any = None
    weight: float = field(init=False, default=0.0)

    def __post_init__(self):
        if self.size[0] <= 0:
            raise ValueError(f"size must be positive, got {self.size}")
        object.__setattr__(self, "weight", self.size[0] * 2)


BIKES = [
    Bike("plain"),
    Bike("old", gears=(), size=(2.0, "l"), runs_on=Wheel(28.0), notes=["rusty"]),
    Bike("tank", runs_on=Track(3.0), spare=Track(4.0), extra={"a": [1, None]}),
    Bike("rich", spare=(Wheel(26.0), Wheel(28.0, 36)), parts={"l": Wheel(1.0), "r": Track(2.0)}),
]


@pytest.mark.parametrize("bike", BIKES, ids=lambda bike: bike.name)
def test_what_json_keeps_comes_back(bike):
    assert from_plain(Bike, asdict(bike), "bike") == bike
    back = from_plain(Bike, json.loads(json.dumps(asdict(bike))), "bike")
    assert back == bike and type(back.gears) is tuple and type(back.notes) is list
    assert back.weight == bike.size[0] * 2


def test_some_fields_and_objects_among_them():
    assert from_plain(Bike, {"name": "x"}, "bike") == Bike("x")
    mine = {"name": "x", "runs_on": Wheel(1.0), "spare": [Wheel(2.0), {"inches": 3.0}]}
    made = Bike("x", runs_on=Wheel(1.0), spare=(Wheel(2.0), Wheel(3.0)))
    assert from_plain(Bike, mine, "bike") == made
    assert from_plain(Bike, made, "bike") is made
    # What is computed is computed again, whatever was written.
    assert from_plain(Bike, {"name": "x", "weight": 99.0}, "bike").weight == 2.0


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"name": "x", "colour": "red"}, "bike has no field 'colour'.*gears"),
        ({}, "bike lacks the field 'name'"),
        ({"name": "x", "runs_on": {"feet": 1}}, r"bike\.runs_on .*Wheel, Track.*feet"),
        ({"name": "x", "runs_on": {}}, r"bike\.runs_on .*Wheel, Track"),
        ({"name": "x", "spare": [{"inches": 1.0}, {"feet": 1}]}, r"bike\.spare\[1\].*'feet'"),
        ({"name": "x", "parts": {"l": {"spokes": 3}}}, r"bike\.parts\['l'\] .*Wheel, Track"),
        ({"name": "x", "size": [1.0]}, r"bike\.size must hold 2 values"),
        ({"name": "x", "size": [-1.0, "m"]}, "size must be positive"),
    ],
)
def test_what_makes_no_sense_is_named(plain, message):
    with pytest.raises(ValueError, match=message):
        from_plain(Bike, plain, "bike")


def test_classes_that_cannot_be_told_apart():
    @dataclass(frozen=True)
    class Tyre:
        inches: float
        spokes: int = 0

    with pytest.raises(ValueError, match=r"wheel must .* one of Wheel, Tyre"):
        from_plain(Wheel | Tyre, asdict(Wheel(1.0)), "wheel")
    assert from_plain(Wheel | Tyre, replace(Wheel(1.0)), "wheel") == Wheel(1.0)
