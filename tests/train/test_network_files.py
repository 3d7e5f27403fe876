"""Networks in files of torch, and files that hold none."""

import warnings

import pytest
import torch
from torch import nn

from mec_gym.dnn.profile import profile
from train.config import ProfileRun
from train.network_files import load_network
from train.profile_network import profile_network

ROW = torch.zeros(1, 8)


def network():
    return nn.Sequential(nn.Linear(8, 5), nn.ReLU(inplace=True), nn.LayerNorm(5), nn.Linear(5, 3))


class Own(nn.Module):
    def forward(self, x):
        return x


class Harm:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize("name", ["net.pt", pytest.param("net.pt2", marks=pytest.mark.slow)])
def test_files_of_torch(name, device, tmp_path):
    path = tmp_path / name
    if name == "net.pt":
        torch.save(network(), path)
    else:
        torch.export.save(torch.export.export(network().eval(), (ROW,)), path)
    out = tmp_path / "a.json"
    graph = profile_network(ProfileRun(module=str(path), out=out, input=("1,8",), device=device))
    expected = profile(network(), ROW)
    assert graph.flops.tolist() == expected.flops.tolist() == [0, 80, 0, 0, 30]
    assert graph.output_bits.tolist() == expected.output_bits.tolist()
    assert (graph.layers[1].seconds is None) == (device is None)


def test_a_transformer_of_torch(tmp_path):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    module = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    torch.save(module, tmp_path / "net.pt")
    again = load_network(str(tmp_path / "net.pt"), content=False)
    x = torch.zeros(1, 5, 8)
    assert profile(again, x).flops.sum() == profile(module, x).flops.sum() > 0


def save_script(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(network()), path)


@pytest.mark.parametrize(
    ("save", "message"),
    [
        (lambda path: torch.save(network().state_dict(), path), "holds a OrderedDict .*no network"),
        (lambda path: torch.save(Own(), path), r"holds a .*Own, whose code is not in the file"),
        (save_script, r"torch\.jit"),
        (lambda path: path.write_bytes(b"PK nothing"), "is no file of torch"),
        (lambda path: None, "there is no file"),
    ],
)
def test_what_is_no_network_is_one_line(save, message, tmp_path):
    path = tmp_path / "net.pt"
    save(path)
    with pytest.raises(ValueError, match=message) as error:
        load_network(str(path), content=True)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_no_code_runs(tmp_path):
    module = network()
    module.harm = Harm(tmp_path / "harm")
    torch.save(module, tmp_path / "net.pt")
    with pytest.raises(ValueError, match="whose code is not in the file"):
        load_network(str(tmp_path / "net.pt"), content=True)
    assert not (tmp_path / "harm").exists()
