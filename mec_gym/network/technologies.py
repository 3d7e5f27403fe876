"""Radio technologies: the power of sending, and the time of a round trip."""

from __future__ import annotations

from dataclasses import dataclass

from mec_gym.core.checks import check_fields


@dataclass(frozen=True, slots=True)
class RadioTechnology:
    """The radio of a device, which draws ``base_power_w + joule_per_bit * rate`` while it sends.

    This is the power model of [Huang2012], table 4: a base power and a slope over the rate of
    the uplink.

    Attributes:
        name: The name of the technology.
        base_power_w: The power at a rate of 0, beta, W. The radio draws it also while it waits
            for a round trip.
        joule_per_bit: How much the power grows with the rate of the uplink, alpha_u, W per
            bit/s, which is the same as J/bit.
        round_trip_s: The time from the device to the edge server and back, without the time
            to send any bits, s.
        source: Where the figures come from.

    Raises:
        ValueError: A number is negative.
    """

    name: str
    base_power_w: float
    joule_per_bit: float
    round_trip_s: float
    source: str = ""

    def __post_init__(self) -> None:
        check_fields(self, non_negative=("base_power_w", "joule_per_bit", "round_trip_s"))


LTE = RadioTechnology(
    "LTE",
    base_power_w=1.28804,
    joule_per_bit=438.39e-9,
    round_trip_s=0.050,
    source="[Huang2012] table 4: beta 1288.04 mW, alpha_u 438.39 mW per Mbit/s; round trip: "
    "below 0.1 s for 4G [Grigorik2013], 55 ms measured to a server on the Internet [Daoudi2013]",
)
LTE_CAT1 = RadioTechnology(
    "LTE Cat-1",
    base_power_w=LTE.base_power_w,
    joule_per_bit=LTE.joule_per_bit,
    round_trip_s=LTE.round_trip_s,
    source="No pair is published for Cat-1. It is a category of LTE's user equipment with the "
    "same air interface and the same largest transmit power, so LTE's figures are taken",
)
UMTS = RadioTechnology(
    "3G",
    base_power_w=0.81788,
    joule_per_bit=868.98e-9,
    round_trip_s=0.100,
    source="[Huang2012] table 4: beta 817.88 mW, alpha_u 868.98 mW per Mbit/s; round trip: the "
    "lower end of 0.1 to 0.5 s [Grigorik2013]",
)
WLAN = RadioTechnology(
    "Wi-Fi",
    base_power_w=0.13286,
    joule_per_bit=283.17e-9,
    round_trip_s=0.003,
    source="[Huang2012] table 4: beta 132.86 mW, alpha_u 283.17 mW per Mbit/s; round trip: as "
    "typical of a campus [Sui2016]",
)
