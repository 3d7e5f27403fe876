"""The zoo: published counts, shipped profiles, and networks by name, path or graph."""

import dataclasses
from pathlib import Path

import pytest
import torch
from slow import slow_except

from mec_gym.dnn import zoo
from mec_gym.dnn.graph import from_json, save_graph
from mec_gym.dnn.profile import profile
from mec_gym.early_exit.partitions import enumerate_partitions

PUBLISHED = {
    # GFLOP at two a multiply-accumulate, parameters, layers, valid partitions.
    "alexnet": (1.43, 61_100_840, 23, 23),
    "vgg16": (30.94, 138_357_544, 41, 41),
    "resnet18": (3.64, 11_689_512, 70, 100),
    "mobilenetv2": (0.6, 3_504_872, 154, 154),
    "googlenet": (3.0, 6_624_904, 198, 8838),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name):
    gflop, parameters, layers, partitions = PUBLISHED[name]
    graph = zoo.load_profile(name)
    assert graph.flops.sum() / 1e9 == pytest.approx(gflop, rel=0.02)
    assert graph.provenance["parameters"] == parameters
    assert graph.provenance["input"] == [[1, 3, 224, 224]]
    assert len(graph) == layers and len(enumerate_partitions(graph)) == partitions
    with torch.device("meta"):
        module = zoo.build(name)
    assert sum(p.numel() for p in module.parameters()) == parameters
    # The input, and logits of a thousand classes, in single precision.
    assert graph.layers[0].output_bits == 3 * 224 * 224 * 32
    assert graph.layers[graph.exits[-1].layer].output_bits == 1000 * 32


@pytest.mark.parametrize("name", slow_except(PUBLISHED, "alexnet", "vgg16", "resnet18"))
@pytest.mark.parametrize("with_exits", [False, True])
def test_shipped_profiles_are_what_is_counted_anew(name, with_exits):
    title = f"{name}-exits" if with_exits else name
    with torch.device("meta"):  # takes no memory
        module = zoo.build(name, exits=with_exits)
    fresh = profile(module, torch.zeros(1, 3, 224, 224), name=title)
    shipped = zoo.load_profile(title)
    assert fresh == shipped and from_json(fresh.to_json()) == shipped
    told = {key: shipped.provenance[key] for key in ("module", "input", "parameters", "tracer")}
    assert told == {key: fresh.provenance[key] for key in told}


def test_a_network_with_exits_holds_the_one_without():
    for name in PUBLISHED:
        whole, plain = zoo.load_profile(f"{name}-exits"), zoo.load_profile(name)
        last = whole.at_exit(len(whole.exits) - 1)
        assert last.layers == plain.layers and last.links == plain.links


# --- a network by name, path or graph


def test_a_network_by_name_path_or_graph(tmp_path):
    named = zoo.resolve("alexnet")
    assert named == zoo.load_profile("alexnet") and named.name == "alexnet"
    own = dataclasses.replace(named, name="mine")
    assert zoo.resolve(own) is own
    path = tmp_path / "alexnet.json"
    save_graph(path, own)
    assert zoo.resolve(str(path)) == own


@pytest.mark.parametrize(
    ("network", "error", "message"),
    [
        ("alexnett", ValueError, "alexnet, .*got 'alexnett'"),
        ("", ValueError, "alexnet, .*got ''"),
        ("nowhere/net.json", FileNotFoundError, "nowhere/net.json"),
        (3, ValueError, "network .*got 3"),
        (None, ValueError, "network .*got None"),
        (Path("net.json"), ValueError, "network .*got .*net.json"),
    ],
)
def test_what_is_no_network_is_refused(network, error, message):
    with pytest.raises(error, match=message):
        zoo.resolve(network)


def test_a_file_that_is_no_profile_is_named(tmp_path):
    path = tmp_path / "net.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"net\.json .*got None"):
        zoo.resolve(str(path))
