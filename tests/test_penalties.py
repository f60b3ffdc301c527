"""Penalties: closed forms for linear and quadratic critics, shapes, and what bounds the slope of a network."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn
from torch.testing import assert_close

from rdae.adversarial import (
    R1,
    R2,
    GradientPenalty,
    Judged,
    Lazy,
    Packed,
    clip_weights,
    interpolated,
    one_coefficient_each,
    packed_event,
    slopes,
    spectrally_normalised,
)
from rdae.adversarial.both_sides import BothSides
from rdae.errors import ModelError, ShapeError
from rdae.networks.critics import ConvolutionalCritic, DenseCritic

EVENTS = {"scalar": (1,), "vector": (5,), "grey": (1, 4, 6), "rgb": (3, 5, 4), "volume": (2, 3, 4, 2)}
every_event = pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)


@pytest.fixture(autouse=True)
def fixed_seed() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        yield


def scattered(critic: nn.Module) -> nn.Module:
    """The critic with weights all over, also in the layer that starts at zero."""
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.normal_(0, 0.5)
    return critic


def batches(event: tuple[int, ...], n: int = 6) -> tuple[Tensor, Tensor]:
    return torch.randn(n, *event, dtype=torch.float64), torch.randn(n, *event, dtype=torch.float64)


# --- gradient penalty -------------------------------------------------------------------------------------------------


@every_event
def test_one_coefficient_for_each_example_and_all_its_elements(event):
    real, fake = batches(event, 200)
    t = one_coefficient_each(real)
    assert t.shape == (200, *(1,) * len(event))
    assert t.dtype == real.dtype
    assert len(t.unique()) == 200
    assert 0 <= float(t.min()) < 0.05 < 0.95 < float(t.max()) < 1
    between = interpolated(real, fake, t)
    share = ((between - fake) / (real - fake)).flatten(1)  # the same along the whole example
    assert_close(share, t.flatten(1).expand_as(share), rtol=1e-6, atol=1e-9)


def test_interpolation_ends_at_the_real_and_at_the_generated_example():
    real, fake = batches((3, 2, 2))
    assert torch.equal(interpolated(real, fake, torch.ones(6, 1, 1, 1)), real)
    assert torch.equal(interpolated(real, fake, torch.zeros(6, 1, 1, 1)), fake)
    with pytest.raises(ShapeError, match="as many of each"):
        interpolated(real, fake[:1], torch.ones(6, 1, 1, 1))


@every_event
def test_a_linear_critic_is_penalised_exactly(event):
    real, fake = batches(event)
    w = torch.randn(event, dtype=torch.float64, requires_grad=True)

    def critic(y: Tensor) -> Tensor:
        return (w * y).flatten(1).sum(1) + 3

    norm = w.detach().flatten().norm()
    assert_close(slopes(critic, real), norm.expand(6))
    penalty = GradientPenalty(7.0)(Judged(critic, real, fake))
    assert_close(penalty.detach(), 7 * (norm - 1) ** 2)
    (gradient,) = torch.autograd.grad(penalty, w)
    assert_close(gradient, 14 * (norm - 1) * w.detach() / norm)
    assert_close(R1(3.0)(Judged(critic, real, fake)).detach(), 1.5 * norm**2)


def test_the_penalty_is_taken_between_the_examples_and_example_by_example():
    """f = |y|^2 / 2 has the gradient y itself; pairs that agree leave nothing to chance."""
    real, _ = batches((2, 3), 50)
    penalty = GradientPenalty(2.0)(Judged(lambda y: y.flatten(1).square().sum(1) / 2, real, real))
    assert_close(penalty, 2 * (real.flatten(1).norm(dim=1) - 1).square().mean())


def test_a_flat_critic_is_penalised_with_a_finite_gradient():
    critic = DenseCritic((2,), (4,))  # its last layer starts at zero
    penalty = GradientPenalty(1.0)(Judged(critic, torch.randn(3, 2), torch.randn(3, 2)))
    penalty.backward()
    assert float(penalty.detach()) == 1.0
    assert all(bool(torch.isfinite(p.grad).all()) for p in critic.parameters() if p.grad is not None)


def test_penalties_reach_the_weights_but_not_the_generator():
    critic = scattered(ConvolutionalCritic((1, 6, 5), (4, 4)))
    real, fake = torch.rand(3, 1, 6, 5), torch.rand(3, 1, 6, 5, requires_grad=True)
    for penalty in (GradientPenalty(), R1(), R2()):
        critic.zero_grad()
        penalty(Judged(critic, real, fake)).backward()
        assert float(critic.layers[0].weight.grad.abs().max()) > 0
        assert fake.grad is None
        with torch.no_grad():  # measuring it needs no gradient around it
            assert bool(torch.isfinite(penalty(Judged(critic, real, fake))))


# --- what a critic said of a batch ------------------------------------------------------------------------------------


class Counted:
    """A quadratic critic that counts the examples it has looked at, call by call."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, y: Tensor) -> Tensor:
        self.calls.append(len(y))
        return y.flatten(1).square().sum(1) / 2


def test_a_batch_is_looked_at_once_if_slopes_are_asked_for_first():
    real, fake = batches((2, 3))
    critic = Counted()
    judged = Judged(critic, real, fake)
    assert_close(judged.gradient(), torch.cat([real, fake]).flatten(1))  # of |y|^2 / 2
    for said, y in zip(judged.logits, (real, fake), strict=True):
        assert_close(said.detach(), y.flatten(1).square().sum(1) / 2)
    assert critic.calls == [12]
    for penalty, calls in ((BothSides(2.0), [12]), (R1(2.0), [6, 12]), (GradientPenalty(2.0), [6, 12])):
        critic.calls.clear()
        judged = Judged(critic, real, fake)
        penalty(judged)
        assert judged.logits[0].shape == (6,)
        assert critic.calls == calls


def test_slopes_may_be_asked_for_after_what_was_said():
    real, fake = batches((3,))
    critic = Counted()
    judged = Judged(critic, real, fake)
    before = judged.logits
    assert not before[0].requires_grad  # nobody asked for slopes
    assert_close(judged.gradient(), torch.cat([real, fake]))
    assert_close(judged.gradient(), torch.cat([real, fake]))  # again, from the same pass
    assert critic.calls == [12, 12]
    assert_close(judged.logits[1].detach(), before[1])


def test_a_batch_before_a_critic_has_as_many_of_each():
    with pytest.raises(ShapeError, match=r"\(6, 3\) but generated ones \(5, 3\)"):
        Judged(Counted(), torch.zeros(6, 3), torch.zeros(5, 3))


# --- R1 and R2 --------------------------------------------------------------------------------------------------------


@every_event
def test_r1_and_r2_of_a_quadratic_critic(event):
    """f = y' A y / 2 + b' y has the gradient A y + b, A symmetric."""
    real, fake = batches(event)
    size = math.prod(event)
    a, b = torch.randn(size, size, dtype=torch.float64), torch.randn(size, dtype=torch.float64)
    a = a + a.T

    def critic(y: Tensor) -> Tensor:
        y = y.flatten(1)
        return ((y @ a) * y).sum(1) / 2 + y @ b

    for penalty, y in ((R1(5.0), real), (R2(5.0), fake)):
        due = 2.5 * (y.flatten(1) @ a + b).square().sum(1).mean()
        assert_close(penalty(Judged(critic, real, fake)), due)


def test_a_lazy_penalty_adds_up_to_the_penalty_of_every_step():
    real, fake = batches((3,))
    critic = scattered(DenseCritic((3,), (8,))).double()
    lazy = Lazy(R1(2.0), every=4)
    once = R1(2.0)(Judged(critic, real, fake))
    at = [lazy(Judged(critic, real, fake), step) for step in range(12)]
    assert_close(torch.stack(at).mean(), once)
    assert [float(x.detach()) > 0 for x in at] == [True, False, False, False] * 3
    due = torch.autograd.grad(once, critic.parameters(), allow_unused=True)
    found = torch.autograd.grad(at[4] / 4, critic.parameters(), allow_unused=True)
    for a, b in zip(due, found, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert_close(a, b)


# --- bounds on weights ------------------------------------------------------------------------------------------------


def test_a_spectrally_normalised_layer_has_slope_one():
    for layer in (nn.Linear(6, 4), nn.Linear(3, 7)):
        with torch.no_grad():
            layer.weight.mul_(5)
        network = spectrally_normalised(layer.double())
        before = layer.parametrizations.weight.original.detach().clone()
        for _ in range(300):  # converges like the ratio of the two largest singular values, below 0.95 here
            network(torch.zeros(1, layer.in_features, dtype=torch.float64))
        network.eval()
        singular = torch.linalg.svdvals(before)
        assert float(singular[1] / singular[0]) < 0.95
        assert_close(layer.weight.detach(), before / singular[0], rtol=0, atol=1e-9)
        x, y = torch.randn(2, 1000, layer.in_features, dtype=torch.float64)
        ratio = (network(x) - network(y)).norm(dim=1) / (x - y).norm(dim=1)
        assert float(ratio.detach().max()) <= 1 + 1e-9


def test_a_spectrally_normalised_dense_critic_is_lipschitz():
    critic = spectrally_normalised(DenseCritic((3,), (16, 16)), iterations=5)
    y = 3 * torch.randn(2000, 3)
    for _ in range(100):
        critic(y[:1])
    critic.eval()
    assert float(slopes(critic, y).detach().max()) <= 1 + 1e-3  # the slowest of three power iterations
    values = critic(y).detach()
    rise = (values[::2] - values[1::2]).abs() / (y[::2] - y[1::2]).norm(dim=1)
    assert float(rise.max()) <= 1 + 1e-3


def test_spectral_normalisation_says_what_it_cannot_do():
    with pytest.raises(ModelError, match="Pass the critic itself"):
        spectrally_normalised(nn.Tanh())
    with pytest.raises(ModelError, match="'' has a parametrised weight already"):
        spectrally_normalised(spectrally_normalised(nn.Linear(2, 2)))


def test_clipped_weights_lie_within_the_bound():
    critic = scattered(DenseCritic((2,), (32, 32)))
    before = {name: value.detach().clone() for name, value in critic.named_parameters()}
    clip_weights(critic, 0.1)
    assert max(float(p.detach().abs().max()) for p in critic.parameters()) == pytest.approx(0.1, rel=1e-6)
    for name, value in before.items():
        kept = value.abs() <= 0.1
        assert torch.equal(critic.get_parameter(name)[kept], value[kept])
    # each weight matrix of m inputs and n outputs has a slope of at most 0.1 sqrt(m n), the activation one of 1
    assert float(slopes(critic, torch.randn(100, 2)).detach().max()) <= 0.1**3 * math.sqrt(2 * 32) * 32 * math.sqrt(32)


# --- packing ----------------------------------------------------------------------------------------------------------


@every_event
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_pack_is_its_examples_side_by_side(event, count):
    y = torch.arange(6 * math.prod(event), dtype=torch.float32).view(6, *event)
    pack = Packed(nn.Identity(), count).pack(y)
    assert pack.shape == (6 // count, *packed_event(event, count))
    due = [torch.cat(list(y[i : i + count]), 0) for i in range(0, 6, count)]
    assert torch.equal(pack, torch.stack(due))


def test_a_packed_critic_judges_whole_packs():
    for inner, event in ((DenseCritic((6,), (8,)), (2,)), (ConvolutionalCritic((6, 5, 5), (4,)), (2, 5, 5))):
        y = torch.randn(12, *event)
        critic = Packed(scattered(inner), 3)
        assert_close(critic(y), inner(torch.cat([y[0::3], y[1::3], y[2::3]], 1)))
        assert critic(y).shape == (4,)
        with pytest.raises(ShapeError, match="multiple of 3"):
            critic(y[:7])


# --- networks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", [(1, 1, 1), (1, 28, 28), (3, 9, 14), (2, 33, 7)])
def test_convolutional_critics_judge_images_of_any_size_each_for_itself(event):
    critic = ConvolutionalCritic(event, (4, 6, 8))
    y = torch.rand(5, *event)
    assert torch.equal(critic(y), torch.zeros(5))
    scattered(critic)
    assert critic(y).shape == (5,)
    assert_close(critic(y)[2:3], critic(y[2:3]), rtol=1e-4, atol=1e-5)  # float32 sums of about 1000 terms
    assert slopes(critic, y).shape == (5,)


@every_event
def test_dense_critics_judge_examples_of_any_shape_in_their_own_unit(event):
    y = 100 * torch.rand(5, *event) + 40
    mean, scale = torch.full(event, 90.0), torch.full(event, 30.0)
    critic, plain = scattered(DenseCritic(event, (8,), mean, scale)), DenseCritic(event, (8,))
    assert torch.equal(plain(y), torch.zeros(5))
    plain.network.layers.load_state_dict(critic.network.layers.state_dict())
    assert critic(y).shape == (5,)
    assert_close(critic(y), plain((y - 90) / 30))
