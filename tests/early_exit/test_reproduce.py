"""Figures of [Ding2025]: gains recomputed by other means, facts that must hold, what is written."""

from __future__ import annotations

import csv
import io
import itertools
import json
from dataclasses import asdict

import numpy as np
import pytest
from rich.console import Console

from mec_gym.dnn.devices import EDGE_SERVER, RASPBERRY_PI_4
from mec_gym.dnn.zoo import load_profile
from mec_gym.early_exit.partitions import enumerate_partitions, partition_cost
from mec_gym.network.bandwidth import CAT1, G3, G4, WIFI
from train.reproduce import WIDTH, reproduce
from train.reproduce.early_exit import REPRODUCTION, EarlyExitRun
from train.reproduce.early_exit.pictures import gains, requirements
from train.reproduce.early_exit.schemes import (
    LINKS,
    LOADS,
    SCHEMES,
    chosen,
    dapdee,
    plan,
    plan_within,
    slowdown_for,
    steady,
    times,
)
from train.reproduce.early_exit.study import (
    BEST,
    DADS_LATENCY,
    DADS_THROUGHPUT,
    DAPDEE_LATENCY,
    DAPDEE_LOSS,
    DAPDEE_THROUGHPUT,
    DEVICES,
    INPUTS,
    NETWORKS,
    TITLES,
    comparisons,
    pick,
    priced,
    published_line,
    with_input,
)
from train.reproduce.early_exit.tables import dads_table, dapdee_table, exits_table, remark

CHAINS = ("vgg16-digits", "alexnet-digits")


@pytest.fixture(scope="module")
def rows():
    return [row for name in NETWORKS for row in comparisons(name, load_profile(name))]


@pytest.fixture(scope="module")
def networks():
    return {name: priced(load_profile(name)) for name in NETWORKS}


def by_hand(graph, on_device, bandwidth, share, slowdown):
    """Td, Tt, Te of the layers on the device, from the profile and the devices' figures."""

    def seconds(layer, flops_per_s, bytes_per_s, overhead):
        busy = max(layer.flops / flops_per_s, layer.bytes_moved / bytes_per_s)
        return busy + overhead if busy else 0.0

    device = edge = 0.0
    for v, layer in enumerate(graph.layers):
        if v in on_device:
            device += slowdown * seconds(layer, 16e9, 5.5e9, 100e-6)
        else:
            edge += seconds(layer, 230e9, 25e9, 10e-6)
    crossing = {u for u, v in graph.links if u in on_device and v not in on_device}
    bits = sum(graph.layers[u].output_bits * (share if u == 0 else 1.0) for u in crossing)
    return device, bits / bandwidth, edge


def all_partitions(graph):
    """Every set of layers that may be on the device, grown layer by layer."""
    needs = {v: {u for u, w in graph.links if w == v} for v in range(1, len(graph))}
    waiting, seen = [frozenset([0])], {frozenset([0])}
    while waiting:
        here = waiting.pop()
        for v, before in needs.items():
            more = here | {v}
            if v not in here and before <= here and more not in seen:
                seen.add(more)
                waiting.append(more)
    return seen


@pytest.mark.parametrize(("device", "slowdown"), [("Raspberry Pi 4", 1.0), ("Raspberry Pi 3", 1.6)])
@pytest.mark.parametrize(("encoding", "share"), [("32 bit", 1.0), ("8 bit", 0.25), ("JPEG", 0.025)])
def test_resnet18_by_brute_force(rows, device, slowdown, encoding, share):
    graph = load_profile("resnet18")
    partitions = all_partitions(graph)
    assert len(partitions) == 100
    everything = frozenset(range(len(graph)))
    for link, bandwidth in {"CAT1": 0.13e6, "3G": 1.1e6, "4G": 5.85e6, "WiFi": 18.88e6}.items():
        stages = [by_hand(graph, p, bandwidth, share, slowdown) for p in partitions]
        alone = by_hand(graph, everything, bandwidth, share, slowdown)
        assert alone[1:] == (0, 0)
        latency = alone[0] / min(map(sum, stages))
        throughput = alone[0] / min(map(max, stages))
        about = {"network": TITLES["resnet18"], "device": device, "input": encoding, "link": link}
        for scheme in ("DADS", "exact"):
            (light,) = pick(rows, **about, load="light", scheme=scheme)
            assert light.latency_speed_up == pytest.approx(latency, rel=1e-12)
        (heavy,) = pick(rows, **about, load="heavy", scheme="exact")
        assert heavy.throughput_gain == pytest.approx(throughput, rel=1e-12)
        (searched,) = pick(rows, **about, load="heavy", scheme="DADS")
        assert 1.0 - 1e-12 <= searched.throughput_gain <= throughput * (1 + 1e-12)


def test_resnet18_on_wifi_in_numbers(rows):
    """A frame of 224 x 224 x 3 values of 32 bit takes 0.255 s, the device 0.243 s."""
    about = {"network": TITLES["resnet18"], "link": "WiFi", "load": "light"}
    plain = pick(rows, **about, device="Raspberry Pi 4", input="32 bit")
    (edge_only,) = pick(plain, scheme="edge-only")
    assert edge_only.latency_s == pytest.approx(224 * 224 * 3 * 32 / 18.88e6 + 0.0186, abs=5e-5)
    (alone,) = pick(plain, scheme="device-only")
    assert alone.latency_s == pytest.approx(0.2432, abs=5e-5)
    assert alone.latency_speed_up == alone.throughput_gain == 1
    (jpeg,) = pick(rows, **about, device="Raspberry Pi 4", input="JPEG", scheme="DADS")
    assert jpeg.latency_speed_up == pytest.approx(
        0.24324 / (0.0186 + 4.816896 / 40 / 18.88), rel=1e-3
    )


def test_published_figures_are_those_of_the_design():
    assert list(DADS_LATENCY.items()) == [
        ("CAT1", 1.46),
        ("3G", 4.14),
        ("4G", 7.23),
        ("WiFi", 8.32),
    ]
    assert list(DADS_THROUGHPUT.values()) == [2.03, 8.3, 9.78, 9.31]
    assert DAPDEE_LATENCY == {"heavy": 7.7, "light": 7.5}
    assert (DAPDEE_THROUGHPUT, DAPDEE_LOSS) == (9.9, 0.012)
    assert {"CAT1": CAT1, "3G": G3, "4G": G4, "WiFi": WIFI} == LINKS


def test_published_figures_stand_where_they_belong(rows):
    for row in rows:
        dads = row.network == TITLES["resnet18"] and row.scheme == "DADS"
        summary = row.link == BEST
        light, heavy = row.load == "light", row.load == "heavy"
        latency = DADS_LATENCY[row.link] if dads and light else None
        throughput = DADS_THROUGHPUT[row.link] if dads and heavy else None
        if summary:
            assert row.scheme == "DAPDEE" and row.network != TITLES["resnet18"]
            latency, throughput = DAPDEE_LATENCY[row.load], DAPDEE_THROUGHPUT if heavy else None
        assert row.published_latency_speed_up == latency
        assert row.published_throughput_gain == throughput
        assert (row.slowdown_for_published is not None) == dads


def test_exact_is_never_slower_than_anybody(rows):
    keys = ("network", "device", "input", "load", "link")
    cells = 0
    for _, group in itertools.groupby(
        sorted((r for r in rows if r.link in LINKS), key=lambda r: [getattr(r, k) for k in keys]),
        key=lambda r: [getattr(r, k) for k in keys],
    ):
        of = {row.scheme: row for row in group}
        light = of["exact"].load == "light"
        gain = {
            scheme: row.latency_speed_up if light else row.throughput_gain
            for scheme, row in of.items()
        }
        assert gain["device-only"] == 1
        assert gain["exact"] >= 1
        assert all(gain["exact"] >= other * (1 - 1e-12) for other in gain.values())
        if "DAPDEE" in gain:
            # Its algorithm is also asked with a deadline that the deepest exit just meets.
            assert gain["DAPDEE"] >= gain["DADS"] * (1 - 1e-12)
            assert of["DAPDEE"].accuracy_loss <= DAPDEE_LOSS
            assert of["exact"].accuracy_loss <= DAPDEE_LOSS
        cells += 1
    assert cells == (2 * 2 * 2 + 2 * 3) * 2 * len(LINKS)


def test_more_bandwidth_smaller_inputs_slower_devices_gain_more(rows):
    for load, field in (("light", "latency_speed_up"), ("heavy", "throughput_gain")):
        for name, encodings in NETWORKS.items():
            gain = np.array(
                [
                    [
                        [
                            getattr(row, field)
                            for row in pick(
                                rows, network=TITLES[name], device=device, input=encoding,
                                load=load, scheme="exact",
                            )
                        ]
                        for encoding in encodings
                    ]
                    for device in DEVICES
                ]
            )  # fmt: skip
            assert gain.shape == (len(DEVICES), len(encodings), len(LINKS))
            for axis in range(3):
                assert (np.diff(gain, axis=axis) >= -1e-12).all()


def test_summary_rows_are_the_largest_of_three_links(rows):
    summaries = pick(rows, link=BEST)
    assert len(summaries) == 2 * 2 * 2 * 2
    for row in summaries:
        about = {k: getattr(row, k) for k in ("network", "device", "input", "load", "scheme")}
        those = [r for r in pick(rows, **about) if r.link in ("CAT1", "3G", "4G")]
        assert len(those) == 3
        for field in ("latency_speed_up", "throughput_gain", "accuracy_loss"):
            assert getattr(row, field) == max(getattr(r, field) for r in those)
        assert row.exit is row.latency_s is row.frames_per_s is None


def test_a_device_so_much_slower_gains_what_is_published(rows):
    for encoding in NETWORKS["resnet18"]:
        network = priced(with_input(load_profile("resnet18"), INPUTS[encoding]))
        for load, published in (("light", DADS_LATENCY), ("heavy", DADS_THROUGHPUT)):
            for link, gain in published.items():
                slowdown = slowdown_for(network, load, LINKS[link], gain)
                slot = steady([LINKS[link]] * 2, slowdown=[slowdown, 0.99 * slowdown])
                found = plan_within(network, "exact", load, slot, 0.0)
                latency, throughput = times(found.cost, slot)
                alone = times(network.device_only, slot)
                ours = alone[0] / latency if load == "light" else throughput / alone[1]
                assert ours[0] == pytest.approx(gain, rel=1e-9) and ours[1] < gain
                those = pick(
                    rows, network=TITLES["resnet18"], input=encoding, load=load, link=link,
                    scheme="DADS", device="Raspberry Pi 4",
                )  # fmt: skip
                assert those[0].slowdown_for_published == pytest.approx(slowdown, rel=1e-12)


def test_published_latencies_are_those_of_one_cut_but_in_cat1():
    c, b, miss = published_line()
    assert c + b / 1.1e6 == pytest.approx(1 / 4.14) and c + b / 18.88e6 == pytest.approx(1 / 8.32)
    assert (c, b) == (pytest.approx(0.11268, abs=1e-5), pytest.approx(141_748, abs=1))
    assert miss == pytest.approx((c + b / 5.85e6) * 7.23 - 1) and abs(miss) < 0.011
    assert c + b / 0.13e6 > 1 > 1 / 1.46


@pytest.mark.parametrize("name", CHAINS)
def test_neurosurgeon_is_exact_on_a_chain_and_dads_beside_it(networks, name):
    network = networks[name]
    slot = steady(np.geomspace(1e5, 4e7, 50))
    light, _ = times(plan(network, "DADS", "light", slot).cost, slot)
    for load in LOADS:
        found = plan(network, "Neurosurgeon", load, slot)
        np.testing.assert_allclose(times(found.cost, slot)[0], light, rtol=1e-12)
        assert (found.exit == len(network.fronts) - 1).all()


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("name", CHAINS)
def test_exact_over_requirements_by_brute_force(networks, name, load):
    network = networks[name]
    graph = network.graph
    options = []  # accuracy, device, bits, edge
    for n, one in enumerate(graph.exits):
        part = graph.at_exit(n)
        device, edge = (d.layer_seconds(part) for d in (RASPBERRY_PI_4, EDGE_SERVER))
        cost = partition_cost(part, enumerate_partitions(part), device, edge)
        options += [(one.accuracy, *row) for row in cost.tolist()]
    limits = requirements(network)[::16]
    slot = steady(np.full(len(limits), LINKS["4G"]), limits)
    found = plan(network, "exact", load, slot)
    latency, throughput = times(found.cost, slot)
    met = 0
    for k, limit in enumerate(limits):
        timed = [
            (accuracy, td + bits / LINKS["4G"] + te, 1 / max(td, bits / LINKS["4G"], te))
            for accuracy, td, bits, te in options
        ]
        fast = [o for o in timed if o[1] <= limit]
        accuracy = graph.accuracies[found.exit[k]]
        if not fast:
            assert latency[k] == pytest.approx(min(o[1] for o in timed), rel=1e-12)
            continue
        met += 1
        most = max(o[0] for o in fast)
        assert accuracy == most
        fast = [o for o in fast if o[0] == most]
        if load == "light":
            assert latency[k] == pytest.approx(min(o[1] for o in fast), rel=1e-12)
        else:
            assert latency[k] <= limit
            assert throughput[k] == pytest.approx(max(o[2] for o in fast), rel=1e-12)
    assert 0 < met < len(limits)


@pytest.mark.parametrize("name", CHAINS)
def test_dapdee_takes_the_deepest_exit_in_time(networks, name):
    network = networks[name]
    least = [float(lookup.light(steady(LINKS["4G"]))[1]) for lookup in network.lookups]
    limits = requirements(network)
    slot = steady(np.full(len(limits), LINKS["4G"]), limits)
    found = chosen(network, dapdee(network, "light", slot))
    latency, _ = times(found.cost, slot)
    for k, limit in enumerate(limits):
        in_time = [n for n, t in enumerate(least) if t <= limit]
        assert found.exit[k] == (max(in_time) if in_time else int(np.argmin(least)))
        assert latency[k] == pytest.approx(least[found.exit[k]], rel=1e-12)
    assert set(found.exit) == set(range(len(least)))
    assert limits[0] < min(least) and limits[-1] > network.device_only[0]


def test_what_is_asked_within_a_loss(networks):
    """Without any loss allowed only exits as good as the deepest remain."""
    network = networks["alexnet-digits"]
    slot = steady(list(LINKS.values()), slowdown=2.0)
    for load in LOADS:
        for scheme in SCHEMES:
            strict, free = (plan_within(network, scheme, load, slot, x) for x in (0.0, 1.0))
            assert (network.loss[strict.exit] <= 0).all()
            better = np.array(times(free.cost, slot)) - np.array(times(strict.cost, slot))
            assert (better[0] <= 0).all() if load == "light" else (better[1] >= 0).all()


def test_steady_slots_and_unknown_schemes(networks):
    slot = steady([1e6, 2e6], slowdown=4.0)
    assert slot.device_speed.tolist() == [0.25, 0.25] and slot.edge_speed.tolist() == [1, 1]
    assert np.isinf(slot.deadline).all()
    latency, throughput = times(np.array([0.5, 3e6, 0.25]), slot)
    assert latency.tolist() == [2 + 3 + 0.25, 2 + 1.5 + 0.25]
    assert throughput.tolist() == [1 / 3, 1 / 2]
    with pytest.raises(ValueError, match=r"scheme must be one of device-only, .*, got 'random'"):
        plan(networks["resnet18"], "random", "light", slot)


def test_inputs_change_nothing_but_the_first_tensor():
    graph = load_profile("alexnet-digits")
    small = with_input(graph, 0.25)
    assert small.layers[1:] == graph.layers[1:] and small.links == graph.links
    assert small.layers[0].output_bits == 32 * 32 * 3 * 8
    assert small.accuracies.tolist() == graph.accuracies.tolist()


@pytest.mark.slow  # ten pictures
def test_files(rows, tmp_path, capsys):
    folder = tmp_path / "run"
    assert reproduce(REPRODUCTION, EarlyExitRun(folder)) == rows
    assert {path.name for path in folder.iterdir()} == {
        "reproduction.json", "reproduction.csv", *REPRODUCTION.pictures
    }  # fmt: skip
    figures = {f"figure_{n}.png" for n in (6, 7, 11, 12, 13, 14, 15, 16, 17)}
    assert figures < set(REPRODUCTION.pictures)
    records = json.loads((folder / "reproduction.json").read_text())
    assert records == [asdict(row) for row in rows]
    assert len(records) == 640
    with (folder / "reproduction.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [{k: "" if v is None else str(v) for k, v in r.items()} for r in records] == lines
    for name in REPRODUCTION.pictures:
        content = (folder / name).read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) > 20_000
    printed = capsys.readouterr().out
    for name in (
        TITLES["resnet18"],
        "published",
        "accuracy lost",
        "Assumptions:",
        "Nothing is tuned",
    ):
        assert name in printed
    # No cell of a table is cut off.
    assert "…" not in printed


def test_the_tables_show_the_rows(rows, networks):
    console = Console(width=WIDTH, file=io.StringIO())
    for table in (dads_table(rows), dapdee_table(rows), exits_table(networks)):
        console.print(table)
    printed = console.file.getvalue()
    assert "…" not in printed
    lines = {}
    for line in printed.splitlines():
        cells = [cell.strip() for cell in line.strip("│").split("│")]
        lines.setdefault(cells[0], []).append(cells)
    variants = list(itertools.product(DEVICES, NETWORKS["resnet18"]))
    those = pick(rows, network=TITLES["resnet18"], scheme="DADS", link="4G")
    for title, load, field in (
        ("latency, 4G", "light", "latency_speed_up"),
        ("throughput, 4G", "heavy", "throughput_gain"),
    ):
        (cells,) = lines[title]
        ours = [getattr(pick(those, load=load, device=d, input=i)[0], field) for d, i in variants]
        assert cells[2:8] == [f"{x:.2f}" for x in ours]
    assert lines["latency, 4G"][0][1] == "7.23" and lines["throughput, 4G"][0][1] == "9.78"
    vgg = lines[TITLES["vgg16-digits"]]
    assert len(vgg) == 4 + 5  # variants, exits
    (row,) = pick(
        rows, network=TITLES["vgg16-digits"], device="Raspberry Pi 3", input="8 bit",
        load="light", link=BEST,
    )  # fmt: skip
    (cells,) = [c for c in vgg if c[1:3] == ["Raspberry Pi 3", "8 bit"]]
    assert cells[3].startswith(f"{row.latency_speed_up:.2f} (")


def test_the_remark_has_the_numbers_of_the_run(networks):
    text = remark(networks["resnet18"])
    # The whole network on the device and on the edge server; what one cut sends: b times 0.2432 s.
    assert "243 ms and 19 ms" in text and "within 1 %" in text and "34 kbit" in text


@pytest.mark.parametrize(("load", "measure"), [("heavy", "latency"), ("light", "throughput")])
def test_one_picture_says_why_exact_lies_below(rows, load, measure):
    """Heavy load: exact minimises the slowest stage, so its latency may be above DAPDEE's."""
    where = {"network": TITLES["vgg16-digits"], "device": "Raspberry Pi 4", "input": "32 bit"}
    (exact,), (other,) = (
        pick(rows, **where, load="heavy", link="4G", scheme=name) for name in ("exact", "DAPDEE")
    )
    assert exact.latency_speed_up < other.latency_speed_up
    assert exact.throughput_gain > other.throughput_gain
    title = gains(rows, load, measure).get_suptitle()
    assert ("slowest stage" in title) == (load == "heavy")


def test_nothing_is_random(rows):
    name = "alexnet-digits"
    again = comparisons(name, load_profile(name))
    assert again == pick(rows, network=TITLES[name])
