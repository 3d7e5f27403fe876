"""The command that profiles a user's own network: what it finds, writes, prints, refuses."""

import re
import sys
import textwrap

import pytest
import torch
from PIL import Image
from torch import nn

from mec_gym.dnn.graph import load_graph
from mec_gym.dnn.profile import profile
from mec_gym.dnn.zoo import load_profile
from train.__main__ import main
from train.config import ProfileRun
from train.profile_network import find_network, profile_network

ONE = """
    from torch import nn
    import json  # what is imported is not defined here

    class Only(nn.Module):
        def __init__(self):
            super().__init__()
            self.h = nn.Linear(8, 3)

        def forward(self, x):
            return self.h(x)
"""
SEVERAL = """
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, wide=8):
            super().__init__()
            self.h = nn.Linear(8, wide)

        def forward(self, x):
            return self.h(x)

    class TwoExits(nn.Module):
        def __init__(self, first, second):
            super().__init__()
            self.first, self.second = first, second

        def forward(self, x):
            y = self.first(x)
            return y, self.second(y).relu()

    def build():
        return TwoExits(Block(), Block())

    def build_wide(wide):
        return Block(wide)

    def broken():
        raise RuntimeError("no weights here\\nnor there")

    def fails():
        raise KeyError

    def nothing(options=(), *more, **others):
        return [1]

    def strange():
        return Strange()

    class Strange(nn.Module):
        def forward(self, x):
            return torch.fft.fft(x).real

    class Moody(nn.Module):
        def forward(self, x):
            return x if x.sum().item() > 0 else -x

    ready = Block(5)
    number = 3
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes modules into the current directory, which is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)

    def write(name, text):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(textwrap.dedent(text))

    yield write
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def run(tmp_path, module, **changes):
    return ProfileRun(module=module, out=tmp_path / "net.json", input=("1,8",), **changes)


def wide(network):
    return network.h.out_features


# --- which network


def test_the_only_class_of_a_file(write):
    write("mine_a.py", ONE)
    assert wide(find_network("mine_a.py")) == wide(find_network("mine_a")) == 3
    assert wide(find_network("./mine_a.py:Only")) == 3


def test_model_comes_before_classes(write):
    for name, line in (("b", "model = Only()"), ("c", "def model(): return Only()")):
        write(f"mine_{name}.py", f"{textwrap.dedent(ONE)}\nclass Other(nn.Module): pass\n{line}\n")
        assert wide(find_network(f"mine_{name}")) == 3


def test_whatever_is_named(write):
    write("mine_d.py", SEVERAL)
    for name, expected in (("Block", 8), ("ready", 5)):
        assert wide(find_network(f"mine_d:{name}")) == expected
        assert wide(find_network(f"mine_d.py:{name}")) == expected
    assert type(find_network("mine_d:build")).__name__ == "TwoExits"


def test_packages_and_neighbours(write, tmp_path, monkeypatch):
    write("pack/__init__.py", "")
    write("pack/blocks.py", ONE)
    write("pack/net.py", "from .blocks import Only\nmodel = Only\n")
    assert wide(find_network("pack.net")) == 3
    write("far/mine_e.py", ONE)
    write("far/mine_f.py", "import mine_e\n\ndef make(): return mine_e.Only()\n")
    assert wide(find_network("far/mine_f.py:make")) == 3
    assert wide(find_network(f"{tmp_path}/far/mine_f.py:make")) == 3


def test_a_file_called_like_another_module(write):
    write("json.py", ONE)
    import json

    assert wide(find_network("json.py")) == 3
    assert sys.modules["json"] is json and json.loads("1") == 1


def test_a_network_of_torch(write):
    assert isinstance(find_network("torch.nn:ReLU"), nn.ReLU)


EVERYTHING = "Block, TwoExits, build, build_wide, broken, fails, nothing, strange, Strange, Moody"


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("absent.py", "file absent.py"),
        ("absent.py:build", "file absent.py"),
        ("absent", "^absent .*ModuleNotFoundError: .*'absent'"),
        ("", "cannot be imported"),
        (":build", "cannot be imported"),
        ("bad", "^bad .*SyntaxError"),
        ("bad.py", r"^bad\.py .*SyntaxError"),
        ("needs", "^needs .*ModuleNotFoundError: .*'absent'"),
        ("leaves.py", r"^leaves\.py .*SystemExit: 3"),
        ("many", rf"^many .*'model'.*many:NAME; .*{EVERYTHING}"),
        ("none.py", r"^none\.py .*'model'.* make, Thing$"),
        ("empty", "^empty .*nothing"),
        ("many.py:Absent", rf"^many\.py .*'Absent'.* {EVERYTHING}, ready$"),
        ("many:number", r"^many:number .*torch\.nn\.Module.*got 3"),
        ("many:TwoExits", r"^many:TwoExits .*\(first, second\)"),
        ("many:build_wide", r"^many:build_wide .*\(wide\)"),
        ("many:broken", "^many:broken .*RuntimeError: no weights here$"),
        ("many:fails", "^many:fails .*KeyError$"),
        ("many:nothing", "^many:nothing .*got list"),
    ],
)
def test_what_is_no_network_is_named(write, module, message):
    write("bad.py", "def f(:\n")
    write("needs.py", "import absent\n")
    write("leaves.py", "import sys\nsys.exit(3)\n")
    write("many.py", SEVERAL)
    write("none.py", "from torch.nn import Linear\ndef make(): pass\nclass Thing: pass\n")
    write("empty.py", "")
    with pytest.raises(ValueError, match=message) as error:
        find_network(module)
    assert "\n" not in str(error.value)


# --- the command


def test_what_it_writes_and_prints(write, tmp_path, capsys):
    write("mine_g.py", SEVERAL)
    out, picture = tmp_path / "deep" / "net.json", tmp_path / "net.png"
    args = ["profile", "mine_g.py:build", "--input", "1,8", "--out", str(out)]
    assert main([*args, "--picture", str(picture)]) == 0
    graph = load_graph(out)
    assert graph == profile(find_network("mine_g:build"), torch.zeros(1, 8), name="net")
    assert [one.name for one in graph.exits] == ["exit 1", "final"]
    with Image.open(picture) as image:
        assert image.format == "PNG" and image.size[0] > 300
    text = " ".join(capsys.readouterr().out.split())
    for words in (
        "net, an input of 0.256 kbit", "layers │ 4", "GFLOP │ 2.56e-07", "parameters │ 144",
        "exit 1 │ 2 layers, 1.28e-07 GFLOP, a result of 0.256 kbit",
        "final │ 4 layers, 2.56e-07 GFLOP, a result of 0.256 kbit",
        "partitions, final │ 4", f"wrote {out}, {picture}",
    ):  # fmt: skip
        assert words in text
    assert "not counted" not in text and "time on" not in text


def test_what_cannot_be_counted_is_in_the_table(write, tmp_path, capsys):
    write("mine_h.py", SEVERAL)
    graph = profile_network(run(tmp_path, "mine_h:strange"))
    assert graph.uncounted == ("fft_fft",)
    text = " ".join(capsys.readouterr().out.split())
    assert "GFLOP │ ?" in text and "not counted │ fft_fft" in text


@pytest.mark.parametrize("how", [["--measure"], ["--device", "cpu"]])
def test_times(write, tmp_path, capsys, how):
    write("mine_i.py", ONE)
    out, before = tmp_path / "net.json", torch.get_num_threads()
    args = ["profile", "mine_i", "--out", str(out), "--input", "1,8", "--threads", "1"]
    assert main([*args, *how]) == 0
    graph = load_graph(out)
    assert graph.measured_seconds.sum() > 0 and torch.get_num_threads() == before
    found = graph.provenance
    assert (found["timed_on"], found["clock"], found["threads"]) == ("cpu", "thread_time", 1)
    assert found["repeats"] == 25 and found["overhead_s"] > 0 and found["cold_start_s"] >= 0
    text = " ".join(capsys.readouterr().out.split())
    assert "time on cpu │" in text and "(CPU time, 1 thread, median of 25)" in text
    assert "the whole module at once │" in text and "overhead per call, not counted │" in text


def test_layers_that_scatter_are_in_the_table(write, tmp_path, capsys, monkeypatch):
    write("mine_s.py", ONE)
    monkeypatch.setattr("mec_gym.dnn.profile.timing.SCATTER", 0.5)  # then all of them do
    profile_network(run(tmp_path, "mine_s", measure=True, threads=2))
    text = " ".join(capsys.readouterr().out.split())
    assert "repeats scatter; measure again │ h " in text and "(wall time, 2 threads, " in text


@pytest.mark.parametrize(
    "name",
    [
        "alexnet-digits",
        pytest.param("resnet18-exits", marks=pytest.mark.slow),
        pytest.param("mobilenetv2", marks=pytest.mark.slow),
    ],
)
def test_profiles_that_ship_know_their_network(tmp_path, name):
    graph = profile_network(ProfileRun(module=name, out=tmp_path / "net.json"))
    expected = load_profile(name)
    assert graph.layers == expected.layers and graph.links == expected.links
    assert [one.layer for one in graph.exits] == [one.layer for one in expected.exits]
    assert [one.accuracy for one in graph.exits] == [one.accuracy for one in expected.exits]


def test_several_inputs(write, tmp_path):
    write(
        "mine_j.py",
        "from torch import nn\nclass Sum(nn.Module):\n  def forward(self, x, y): return x + y\n",
    )
    out = tmp_path / "net.json"
    assert main(["profile", "mine_j", "--out", str(out), "--input", "1,8", "3,1"]) == 0
    graph = load_graph(out)
    assert graph.provenance["input"] == [[1, 8], [3, 1]]
    assert graph.output_bits.tolist() == [11 * 32, 24 * 32]


def test_files_are_not_overwritten_unasked(write, tmp_path):
    write("mine_k.py", ONE)
    plain = run(tmp_path, "mine_k", picture=tmp_path / "net.png")
    profile_network(plain)
    before = plain.out.read_bytes()
    with pytest.raises(ValueError, match=r"net\.json.*--overwrite"):
        profile_network(plain)
    plain.out.unlink()
    with pytest.raises(ValueError, match=r"net\.png.*--overwrite"):
        profile_network(plain)
    assert not plain.out.exists()
    profile_network(run(tmp_path, "mine_k", picture=tmp_path / "net.png", overwrite=True))
    assert plain.out.read_bytes() == before


def test_errors_are_one_line_and_leave_nothing(write, tmp_path, capsys):
    write("mine_l.py", SEVERAL)
    out = str(tmp_path / "net.json")
    for module, more, message in (
        ("mine_l", [], "mine_l defines several networks"),
        ("mine_l:Block", ["--input", "1,9"], "[(1, 9)] does not fit net"),
        ("mine_l:Block", ["--input", "1,8", "1,8"], "does not fit net"),
        ("mine_l:Moody", [], "if x.sum().item() > 0"),
        ("mine_l:Block", ["--device", "abacus"], "device must be usable by torch, got 'abacus'"),
    ):
        shape = [] if "--input" in more else ["--input", "1,8"]
        assert main(["profile", module, "--out", out, *shape, *more]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".py"] in (
        [], ["__pycache__"],
    )  # fmt: skip


@pytest.mark.parametrize("text", ["", "1,", ",8", "1,-8", "1,0", "1.0,8", "1 8", "a", "1,8;", "²"])
def test_shapes(text, tmp_path):
    with pytest.raises(ValueError, match=f"^input .*{re.escape(repr(text))}$"):
        ProfileRun(module="m", out=tmp_path / "a.json", input=(text,))
    assert ProfileRun(module="m", out=tmp_path / "a.json", input=("1,3,224,224", "7")).shapes == (
        (1, 3, 224, 224),
        (7,),
    )


def test_names_of_files(tmp_path):
    for name in ("net", "net.png", "json"):
        with pytest.raises(ValueError, match=rf"^out .*\.json.*{name}$"):
            ProfileRun(module="m", out=tmp_path / name, input=("1",))
    with pytest.raises(ValueError, match=r"^picture .*\.png.*a\.jpg$"):
        ProfileRun(module="m", out=tmp_path / "a.json", input=("1",), picture=tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"^input "):
        ProfileRun(module="m", out=tmp_path / "a.json", input=())


def test_types_of_inputs(write, tmp_path, capsys):
    write(
        "kinds.py",
        """
        from torch import nn
        words = nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 2))
        half = nn.Linear(8, 3).half()
        full = nn.Linear(8, 3)
        """,
    )
    words = profile_network(run(tmp_path, "kinds.py:words", input_type=("int64",)))
    assert words.flops.tolist() == [0, 0, 2 * 8 * 8 * 2] and words.output_bits[0] == 8 * 64
    changes = {"input_type": ("float16",), "overwrite": True}
    half = profile_network(run(tmp_path, "kinds.py:half", **changes))
    assert half.output_bits.tolist() == [8 * 16, 3 * 16]
    with pytest.raises(ValueError, match="float16"):
        profile_network(run(tmp_path, "kinds.py:full", **changes))
    with pytest.raises(ValueError, match=r"input_type .*int64.*got 'long'"):
        run(tmp_path, "kinds.py", input_type=("long",))
    with pytest.raises(ValueError, match=r"input_type .*\(1\), got 2"):
        run(tmp_path, "kinds.py", input_type=("int64", "bool"))


def test_a_batch_counts_as_one_frame_and_it_says_so(write, tmp_path, capsys):
    write("one.py", ONE)
    single = profile_network(run(tmp_path, "one.py"))
    assert "note" not in capsys.readouterr().out
    batch = ProfileRun(module="one.py", out=tmp_path / "batch.json", input=("8,8",))
    assert profile_network(batch).flops.sum() == 8 * single.flops.sum()
    assert "per frame, and 8,8 counts as one frame" in capsys.readouterr().out


def test_huge_inputs(write, tmp_path):
    write("conv.py", "from torch import nn\nmodel = nn.Conv2d(3, 1, 1)\n")
    huge = ProfileRun(module="conv.py", out=tmp_path / "a.json", input=("1,3,1000000,1000000",))
    assert profile_network(huge).flops.sum() == 2 * 3 * 1e12
    for text in ("9" * 30, "9999999999,9999999999"):
        wrong = ProfileRun(module="conv.py", out=tmp_path / "b.json", input=(text,))
        with pytest.raises(ValueError, match=f"input is too large, got {text}"):
            profile_network(wrong)
