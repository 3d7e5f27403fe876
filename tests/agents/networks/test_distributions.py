"""One distribution of N parts says what N of torch's own say."""

import pytest
import torch
from torch.distributions import Categorical, Normal

from agents.networks import FusedCategorical, FusedGaussian, masked

B, N, C = 7, 5, 4


@pytest.fixture
def logits():
    return 3.0 * torch.randn(B, N, C, generator=torch.Generator().manual_seed(0))


def test_equals_torchs_own(logits):
    fused, theirs = FusedCategorical(logits), Categorical(logits=logits)
    places = torch.randint(C, (B, N), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(fused.log_prob(places), theirs.log_prob(places))
    torch.testing.assert_close(fused.joint_log_prob(places), theirs.log_prob(places).sum(-1))
    torch.testing.assert_close(fused.entropy(), theirs.entropy())
    assert torch.equal(fused.mode(), theirs.probs.argmax(-1))


def test_gradients_equal_torchs_own(logits):
    places = torch.randint(C, (B, N), generator=torch.Generator().manual_seed(1))
    gradients = []
    for make in (FusedCategorical, lambda x: Categorical(logits=x)):
        leaf = logits.clone().requires_grad_()
        made = make(leaf)
        (made.log_prob(places).sum() + 0.3 * made.entropy().sum()).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)


def test_by_hand():
    """Probabilities 1/4, 3/4 and 1/2, 1/2."""
    made = FusedCategorical(torch.log(torch.tensor([[[1.0, 3.0], [2.0, 2.0]]])))
    places = torch.tensor([[1, 0]])
    expected = torch.log(torch.tensor([[0.75, 0.5]]))
    torch.testing.assert_close(made.log_prob(places), expected)
    torch.testing.assert_close(made.joint_log_prob(places), torch.log(torch.tensor([0.375])))
    torch.testing.assert_close(made.entropy(), torch.tensor([[0.5623351446, 0.6931471806]]))


def test_samples_are_distributed_as_told():
    probabilities = torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.0, 0.5]])
    many = probabilities.log().expand(40_000, 2, 3)
    drawn = FusedCategorical(many).sample(torch.Generator().manual_seed(0))
    assert drawn.shape == (40_000, 2) and drawn.dtype == torch.int64
    for n in range(2):
        shares = torch.bincount(drawn[:, n], minlength=3) / 40_000
        # Five standard deviations of a share.
        torch.testing.assert_close(shares, probabilities[n], atol=0.0125, rtol=0.0)
        assert (shares[probabilities[n] == 0] == 0).all()
    # The two choices are independent.
    both = ((drawn[:, 0] == 2) & (drawn[:, 1] == 0)).float().mean()
    assert both == pytest.approx(0.35, abs=0.012)


def test_the_generator_decides(logits):
    def draw(seed):
        return FusedCategorical(logits).sample(torch.Generator().manual_seed(seed))

    before = torch.get_rng_state()
    assert torch.equal(draw(5), draw(5))
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(draw(5), draw(6))


@pytest.mark.parametrize("how", ["masked", "infinite"])
def test_masked_places(logits, how):
    allowed = torch.rand(B, N, C, generator=torch.Generator().manual_seed(2)) < 0.5
    allowed[..., 0] |= ~allowed.any(-1)
    allowed[0, 0] = torch.tensor([False, False, True, False])
    leaf = logits.clone().requires_grad_()
    shut = masked(leaf, allowed) if how == "masked" else leaf.masked_fill(~allowed, -torch.inf)
    made = FusedCategorical(shut)
    theirs = Categorical(logits=logits.masked_fill(~allowed, -1e30), validate_args=False)
    places = made.sample(torch.Generator().manual_seed(3))
    assert allowed.gather(-1, places[..., None]).all()
    assert allowed.gather(-1, made.mode()[..., None]).all()
    torch.testing.assert_close(made.log_prob(places), theirs.log_prob(places))
    torch.testing.assert_close(made.entropy(), theirs.entropy())
    assert made.entropy()[0, 0] == 0.0
    (made.joint_log_prob(places).sum() + made.entropy().sum()).backward()
    assert leaf.grad.isfinite().all() and (leaf.grad[~allowed] == 0).all()


@pytest.fixture
def outputs():
    """Means and logarithms of standard deviations, from -1.5 to 1.5."""
    return torch.rand(B, N, 2, generator=torch.Generator().manual_seed(2)) * 3.0 - 1.5


def normals(outputs):
    return Normal(outputs[..., 0], outputs[..., 1].exp())


def test_numbers_equal_torchs_own(outputs):
    fused, theirs = FusedGaussian(outputs), normals(outputs)
    actions = theirs.sample()
    torch.testing.assert_close(fused.log_prob(actions), theirs.log_prob(actions))
    torch.testing.assert_close(fused.joint_log_prob(actions), theirs.log_prob(actions).sum(-1))
    torch.testing.assert_close(fused.entropy(), theirs.entropy())
    assert torch.equal(fused.mode(), outputs[..., 0])


def test_gradients_of_numbers_equal_torchs_own(outputs):
    actions = normals(outputs).sample()
    gradients = []
    for make in (FusedGaussian, normals):
        leaf = outputs.clone().requires_grad_()
        made = make(leaf)
        (made.log_prob(actions).sum() + 0.3 * made.entropy().sum()).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)


def test_numbers_are_drawn_as_told():
    outputs = torch.tensor([[0.5, -1.0], [-2.0, 0.7]]).expand(40_000, 2, 2)
    drawn = FusedGaussian(outputs.requires_grad_()).sample(torch.Generator().manual_seed(0))
    assert not drawn.requires_grad
    deviation = outputs[0, :, 1].detach().exp()
    # Five standard deviations of a mean, and of a standard deviation.
    for found, expected, share in (
        (drawn.mean(0), outputs[0, :, 0].detach(), 5.0 / 200.0),
        (drawn.std(0), deviation, 3.6 / 200.0),
    ):
        assert ((found - expected).abs() < share * deviation).all()
    # The two numbers are independent.
    assert abs(float(torch.corrcoef(drawn.T)[0, 1])) < 0.025
    again = FusedGaussian(outputs).sample(torch.Generator().manual_seed(0))
    assert torch.equal(drawn, again)
