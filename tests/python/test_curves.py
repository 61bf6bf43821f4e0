"""The same training with the peer's objective and with ours, 200 steps in one process: the same curve; and
a dense network on composed pictures, which the program does not train but the library does."""
import pytest
import torch

import ood
from ood.nn import functional as F

peer = pytest.importorskip("pytorch_ood.loss")
pytestmark = pytest.mark.filterwarnings("ignore")


def curve(loss, steps=200, seed=5):
    """Losses of a small network under SGD; loss(logits, features, target)."""
    g = torch.Generator().manual_seed(seed)
    x, y = torch.randn(512, 10, generator=g), torch.randint(-2, 4, (512,), generator=g).clamp(min=-1)
    x[y >= 0, :4] += 2 * torch.nn.functional.one_hot(y[y >= 0], 4)
    torch.manual_seed(seed)
    body, last = torch.nn.Sequential(torch.nn.Linear(10, 16), torch.nn.ReLU()), torch.nn.Linear(16, 4)
    optimizer = torch.optim.SGD([*body.parameters(), *last.parameters()], lr=.02, momentum=.9)
    values = []
    for _ in range(steps):
        rows = torch.randint(0, 512, (64,), generator=g)
        f = body(x[rows])
        value = loss(last(f), f, y[rows])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < values[0]
    return torch.tensor(values)


CENTER = torch.full((4,), .3)
PAIRS = {
    "outlier_exposure": (peer.OutlierExposureLoss(), lambda z, y: F.outlier_exposure(z, y, balance="whole_batch")),
    "energy_regularized": (peer.EnergyRegularizedLoss(.1, -9., -3.),
                           lambda z, y: F.energy_regularized(z, y, alpha=.1, margin_in=-9., margin_out=-3.)),
    "entropic_open_set": (peer.EntropicOpenSetLoss(), lambda z, y: F.entropic_open_set(z, y)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_losses_of_logits_follow_the_peers_curve(name):
    theirs, ours = PAIRS[name]
    a, b = curve(lambda z, f, y: theirs(z, y)), curve(lambda z, f, y: ours(z, y))
    torch.testing.assert_close(b, a, atol=1e-4, rtol=1e-4)


def test_objectosphere_follows_the_peers_curve():
    theirs, ours = peer.ObjectosphereLoss(.01, 5.), ood.nn.ObjectosphereLoss(.01, 5.)
    torch.testing.assert_close(curve(ours), curve(theirs), atol=1e-4, rtol=1e-4)


def test_deep_svdd_follows_the_peers_curve():
    theirs, ours = peer.DeepSVDDLoss(4, center=CENTER.clone()), ood.nn.DeepSVDDLoss(4)
    ours.center.copy_(CENTER)
    torch.testing.assert_close(curve(lambda z, f, y: ours(z, y)), curve(lambda z, f, y: theirs(z, y)), atol=1e-4, rtol=1e-4)


def composed(n, seed, unknown):
    """Pictures 16x16 with a disc, a square and, as what is not known, a cross; a label for each pixel."""
    g = torch.Generator().manual_seed(seed)
    x, y = torch.rand(n, 1, 16, 16, generator=g) * .3, torch.zeros(n, 16, 16, dtype=torch.long)
    r = torch.arange(16)
    for i in range(n):
        for kind in (1, 2) + ((-1,) if unknown else ()):
            cy, cx = torch.randint(3, 13, (2,), generator=g).tolist()
            dy, dx = (r[:, None] - cy).abs(), (r[None] - cx).abs()
            mask = {1: dy ** 2 + dx ** 2 <= 6, 2: (dy <= 2) & (dx <= 2), -1: ((dy == 0) & (dx <= 3)) | ((dx == 0) & (dy <= 3))}[kind]
            x[i, 0][mask] += {1: .4, 2: .7, -1: 1.2}[kind]
            y[i][mask] = kind
    return x, y


@pytest.mark.parametrize("name", ["outlier_exposure", "energy_regularized", "entropic_open_set"])
def test_a_dense_network_learns_to_tell_unknown_pixels(name):
    torch.manual_seed(0)
    conv = lambda a, b: torch.nn.Conv2d(a, b, 3, padding=1)
    network = torch.nn.Sequential(conv(1, 16), torch.nn.ReLU(), conv(16, 16), torch.nn.ReLU(), conv(16, 3))
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    options = dict(margin_in=-6., margin_out=-2.) if name == "energy_regularized" else {}
    x, y = composed(64, 1, True)
    for step in range(120):
        rows = torch.arange(step * 16, step * 16 + 16) % 64
        layout = torch.channels_last if step % 2 else torch.contiguous_format
        loss = getattr(F, name)(network(x[rows].contiguous(memory_format=layout)), y[rows], **options)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x, y = composed(32, 2, True)
    with torch.no_grad():
        z = network(x)
    score = (ood.scores.energy if name == "energy_regularized" else ood.scores.msp)(z.movedim(1, -1).reshape(-1, 3))
    unknown = y.reshape(-1) < 0
    assert ood.metrics.detection(score[~unknown], score[unknown]).auroc > .9
    assert (z.argmax(1)[y >= 0] == y[y >= 0]).float().mean() > .9
