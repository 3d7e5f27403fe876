"""What goes in, what comes out, and which parameters see what."""

import itertools
import re

import pytest
import torch
from aim_problem import AimProblem
from gymnasium import spaces
from places_problem import PlacesProblem
from tiny_problem import TinyDiscrete, TinyProblem

import mec_gym
from agents.heads import FlatHead, make_head
from agents.networks import NETWORKS, make_network
from agents.settings import NetworkOptions

PROBLEM = PlacesProblem(devices=3, places=4)
WIDTH = PROBLEM.width


def head_of(columns=0):
    problem = PlacesProblem(devices=3, places=4)
    problem.device_columns = columns
    return FlatHead(problem)


def inputs(seed=0, batch=6):
    size = PROBLEM.observation_space.shape[0]
    return torch.rand(batch, size, generator=torch.Generator().manual_seed(seed))


def made(name="branches", columns=0, seed=0, **options):
    torch.manual_seed(seed)
    return make_network(name, head_of(columns), NetworkOptions(hidden=8, **options))


ALL = [("flat", {}, 0)] + [
    ("branches", {"sharing": sharing, "output": output}, columns)
    for sharing, output, columns in itertools.product(
        ("hard", "soft"), ("branch", "tied"), (0, WIDTH)
    )
]


@pytest.mark.parametrize(("name", "options", "columns"), ALL)
def test_shapes_and_gradients(name, options, columns):
    network = made(name, columns, **options)
    logits, values = network(inputs())
    assert logits.shape == (6, 3, 4) and values.shape == (6,)
    # Close to uniform at first, but not the same for all.
    assert 0 < logits.std() < 0.1
    (logits.square().sum() + values.square().sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize(("name", "options", "columns"), ALL)
def test_rows_of_a_batch_do_not_mix(name, options, columns):
    network = made(name, columns, **options)
    one, whole = inputs()[2:3], inputs()
    for alone, among in zip(network(one), network(whole), strict=True):
        torch.testing.assert_close(alone[0], among[2])


def test_soft_sharing_ties_two_trunks():
    network = made(sharing="soft", sharing_weight=0.5)
    assert network.sharing_loss() == 0.0  # alike at first
    with torch.no_grad():
        network.trunk[0].bias += torch.tensor([1.0, 2.0, 0, 0, 0, 0, 0, 0])
        network.critic_trunk[2].bias -= 3.0
    loss = network.sharing_loss()
    assert loss.item() == pytest.approx(0.5 * (1 + 4 + 8 * 9))
    loss.backward()
    # d/da lambda (a - c)^2 = 2 lambda (a - c), and the opposite for c.
    assert network.trunk[0].bias.grad[:3].tolist() == [1.0, 2.0, 0.0]
    assert network.critic_trunk[0].bias.grad[:3].tolist() == [-1.0, -2.0, 0.0]


def test_soft_sharing_keeps_actor_and_critic_apart():
    network = made(sharing="soft")
    network(inputs())[1].sum().backward()
    assert network.trunk[0].weight.grad is None
    assert network.critic_trunk[0].weight.grad.abs().sum() > 0
    hard = made(sharing="hard")
    assert hard.critic_trunk is None and hard.sharing_loss() == 0.0
    hard(inputs())[1].sum().backward()
    assert hard.trunk[0].weight.grad.abs().sum() > 0


def test_a_branch_is_a_devices_own():
    network = made()
    network(inputs())[0][:, 1].square().sum().backward()
    own = network.branches.weight.grad.abs().sum(dim=(1, 2))
    assert (own > 0).tolist() == [False, True, False]
    hidden = network.branches.hidden.weight.grad.unflatten(0, (3, -1)).abs().sum(dim=(1, 2))
    assert (hidden > 0).tolist() == [False, True, False]


def test_one_scorer_for_all_devices():
    """Swapping two devices' rows swaps their logits, as long as the trunk says nothing."""
    network = made(columns=WIDTH, output="tied")
    with torch.no_grad():
        network.branches.of_all.weight.zero_()
    rows = inputs()[:, : 3 * WIDTH].unflatten(1, (3, WIDTH))
    swapped = torch.cat([rows[:, [1, 0, 2]].flatten(1), inputs()[:, 3 * WIDTH :]], dim=1)
    torch.testing.assert_close(network(swapped)[0], network(inputs())[0][:, [1, 0, 2]])
    # Without rows it is told who asks.
    logits = made(columns=0, output="tied")(inputs())[0]
    assert not torch.allclose(logits[:, 0], logits[:, 1])


def test_the_outputs_grow_with_n_and_not_with_its_power():
    def size(devices):
        head = FlatHead(PlacesProblem(devices=devices, places=4))
        network = make_network("branches", head)
        return sum(p.numel() for p in network.parameters())

    assert size(12) - size(11) == size(4) - size(3)


def test_branches_by_hand():
    """The batched product is every branch's own two layers."""
    network = made()
    features = network.trunk(inputs())
    hidden = network.branches.hidden
    for n in range(3):
        rows = slice(4 * n, 4 * (n + 1))
        own = torch.tanh(features @ hidden.weight[rows].T + hidden.bias[rows])
        expected = own @ network.branches.weight[n] + network.branches.bias[n]
        torch.testing.assert_close(network(inputs())[0][:, n], expected)


@pytest.mark.parametrize("name", ["flat", "branches"])
def test_these_are_made_for_one_size(name):
    network = made(name)
    assert network.sized(head_of()) is network
    for devices, places in ((2, 4), (3, 5)):
        head = FlatHead(PlacesProblem(devices=devices, places=places))
        with pytest.raises(ValueError, match=f"3 .*4 .*{devices} .*{places}"):
            network.sized(head)


def test_unknown_names():
    with pytest.raises(ValueError, match=f"network .*{', '.join(NETWORKS)}.*'deep'"):
        make_network("deep", head_of())


OTHERS = {"unequal": TinyProblem(), "one": TinyDiscrete(), "numbers": AimProblem()}
NAMES = ("flat", "branches")


def of(problem, name, **options):
    torch.manual_seed(0)
    return make_network(name, FlatHead(problem), NetworkOptions(hidden=8, **options))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("kind", "shape"), [("unequal", (2, 3)), ("one", (1, 6))])
def test_choices_of_any_sizes(name, kind, shape):
    problem = OTHERS[kind]
    network = of(problem, name)
    seen = torch.rand(500, *problem.observation_space.shape)
    actions, outputs, values = network.choose(seen)
    assert outputs.shape == (500, *shape) and values.shape == (500,)
    assert actions.shape == (500, shape[0]) and actions.dtype == torch.int64
    chances = outputs.softmax(dim=-1)
    sizes = [2, 3] if kind == "unequal" else [6]
    for n, size in enumerate(sizes):
        assert set(actions[:, n].tolist()) == set(range(size))
        assert (chances[:, n, size:] == 0).all() and (chances[:, n, :size] > 0.1).all()
    # A place that a choice lacks adds nothing to its entropy.
    entropy = network.distribution(outputs).entropy()
    torch.testing.assert_close(
        entropy, torch.tensor(sizes).log().expand(500, -1), atol=1e-2, rtol=0
    )
    (network.distribution(outputs).log_prob(actions).sum() + values.sum()).backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())
    assert set(network.state_dict()) == {key for key, _ in network.named_parameters()}


@pytest.mark.parametrize("name", NAMES)
def test_numbers_have_means_and_one_deviation_each(name):
    network = of(OTHERS["numbers"], name, log_std_init=-0.5)
    seen = torch.rand(7, 3)
    outputs, values = network(seen)
    assert outputs.shape == (7, 2, 2) and values.shape == (7,)
    assert (outputs[..., 1] == -0.5).all() and (outputs[..., 0].abs() < 0.1).all()
    assert len(torch.unique(outputs[..., 0])) == 14
    network.distribution(outputs).log_prob(torch.ones(7, 2)).sum().backward()
    assert (network.log_std.grad > 0).all()  # far away: spread out
    greedy, _, _ = network.choose(seen, greedy=True)
    assert greedy.dtype == torch.float32 and torch.equal(greedy, outputs[..., 0])


@pytest.mark.parametrize("name", NAMES)
def test_outputs_that_no_network_has_are_refused(name):
    head = FlatHead(PROBLEM)
    for space in (spaces.MultiBinary(3), spaces.Discrete(3, start=1), spaces.Text(4)):
        head.output_space = space
        with pytest.raises(ValueError, match=re.escape(str(space))):
            make_network(name, head)


def test_distributed_inference_shows_a_row_a_device():
    problem = mec_gym.make_problem("mec/DistributedInference-v1", "patent")
    head = make_head("flat", problem)
    assert head.device_columns == problem.device_columns
    network = make_network("branches", head, NetworkOptions(output="tied"))
    devices = problem.scenario.devices
    logits, _ = network(torch.rand(2, problem.observation_space.shape[0]))
    assert logits.shape == (2, devices, problem.scenario.servers + 1)
    assert network.branches.of_device.in_features == problem.device_columns
