"""Domain-adversarial training: three networks, three steps a batch (paper 1, section 3.2).

The head's hidden layer is the feature fuser, its output layer the emotion classifier, and a
logistic unit on the pooled hidden layer the domain classifier (the paper does not say its layers).
Each minibatch, after the step on the emotion loss, the domain classifier learns to tell added from
real data, and then the fuser takes the reversed gradient of that loss. Each step has an Adam of its
own. As Adam does not feel the scale of a gradient, ``reversal`` scales the third step's rate.

All three steps see what augmentation on the cache made of the minibatch. The domain of two
utterances that are joined or mixed is the share of added data in them.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from ser_features.heads.superb import Blend, SuperbStack

DOMAIN = 4
"""Purpose of the generator of a domain classifier's initial weights."""


class DomainCounts:
    """Hits and trials of R domain classifiers, for each domain; real data are domain 0.

    What is of both domains counts for neither.
    """

    def __init__(self, num_runs: int, device: torch.device) -> None:
        self._counts = torch.zeros((2, num_runs, 2), device=device)

    def add(self, said: Tensor, domains: Tensor, there: Tensor) -> None:
        """Which slots [R, B] were said to be added, their domains 0…1, which slots count."""
        for domain in (0, 1):
            of = there & (domains == domain)
            self._counts[0, :, domain] += (of & (said == bool(domain))).sum(dim=1)
            self._counts[1, :, domain] += of.sum(dim=1)

    def take(self) -> list[float]:
        """Balanced accuracy of each run since the last call; 0.5 where a domain was not seen."""
        hits, trials = self._counts.to("cpu", copy=True)
        self._counts.zero_()
        shares = torch.where(trials > 0, hits / trials.clamp(min=1), 0.5)
        return [float(share) for share in shares.mean(dim=1)]


class StackAdversary:
    """The domain classifiers of a stack of ``superb`` heads, and the reversed steps.

    The fuser is affine up to its pooling, so the classifier acts on the mean over frames through
    u = W1' v: the gradients are of rank one and written by hand.

        logit = z u + v b1 + c      δ = (sigmoid(logit) - domain) weight      g = Σ δ z, s = Σ δ
        dv = W1 g + b1 s,  dc = s       dW1 = v g',  db1 = v s,  dw = softmax' of δ u' x
    """

    def __init__(
        self,
        stack: SuperbStack,
        domains: Tensor,
        lrs: Sequence[float],
        rngs: Sequence[np.random.Generator],
        reversal: float,
        clip: float,
    ) -> None:
        """``domains`` [N] bool is True for added rows; ``lrs`` and ``rngs`` are by run."""
        self._stack, self._domains, self._clip = stack, domains.float(), clip
        self._reversal = reversal
        hidden, device = stack.shape.hidden, domains.device
        bound = hidden**-0.5
        drawn = np.stack([rng.uniform(-bound, bound, hidden + 1) for rng in rngs])
        self.params = torch.from_numpy(drawn.astype(np.float32)).to(device)  # v and c, [R, H + 1]
        self.grads = torch.zeros_like(self.params)
        self.fuser_grads = tuple(torch.zeros_like(block) for block in stack.blocks)
        self._optimiser = _adam([self.params], [self.grads], lrs, 1.0)
        self._fuser = _adam(stack.blocks, self.fuser_grads, lrs, reversal)
        self._counts = DomainCounts(stack.num_runs, device)

    def update(
        self,
        table: Tensor,
        rows: Tensor,
        index: Tensor,
        weight: Tensor,
        blend: Blend | None = None,
    ) -> None:
        """Steps two and three on a minibatch: its table rows [R, B, L], rows and weights [R, B]."""
        mixed, scalars = self._stack.mix(table, rows, blend)
        domains = self.domains_of(index, blend)
        said = self.learn(mixed.detach(), domains, weight)
        self._counts.add(said, domains, weight > 0)
        self._optimiser.step()
        if self._reversal:
            self.reverse(mixed, scalars, domains, weight)
            self._fuser.step()

    def domains_of(self, index: Tensor, blend: Blend | None) -> Tensor:
        """Share of added data in each slot of a minibatch, [R, B]."""
        own = self._domains[index]
        if blend is None:
            return own
        partner = blend.rows[..., 0] // self._stack.shape.num_layers
        return own + blend.other * (self._domains[partner] - own)

    def accuracy(self) -> list[float]:
        """Balanced accuracy of each run's classifier on the minibatches since the last call.

        Each was judged before the classifier learned from it.
        """
        return self._counts.take()

    def learn(self, mixed: Tensor, domains: Tensor, weight: Tensor) -> Tensor:
        """Fill ``grads`` from the fuser's detached output; what was said before, [R, B]."""
        projector, bias, *_ = self._stack.params
        logits, delta = self._delta(mixed, domains, weight)
        pushed = torch.bmm(mixed.transpose(1, 2), delta)  # g, [R, D, 1]
        total = delta.sum(dim=1, keepdim=True)  # s, [R, 1, 1]
        self.grads[:, :-1] = (torch.bmm(projector, pushed) + bias * total).squeeze(2)
        self.grads[:, -1] = total.flatten()
        _clip(self.grads.square().sum(dim=1), [self.grads], self._clip)
        return logits.squeeze(2) > 0

    def reverse(self, mixed: Tensor, scalars: Tensor, domains: Tensor, weight: Tensor) -> None:
        """Fill ``fuser_grads`` with the reversed gradient of the domain loss."""
        given = mixed.detach()
        _, delta = self._delta(given, domains, weight)
        vector = self.params[:, :-1].unsqueeze(2)
        pushed = torch.bmm(given.transpose(1, 2), delta)
        d_bias, _, _, d_scalars = self._stack.views(self.fuser_grads[1])
        torch.bmm(vector, -pushed.transpose(1, 2), out=self.fuser_grads[0])
        d_bias.copy_(-vector * delta.sum(dim=1, keepdim=True))
        if self._stack.shape.num_scalars:
            back = torch.bmm(delta, self._direction().transpose(1, 2))
            d_scalars.copy_(-torch.autograd.grad(mixed, scalars, back)[0])
        squares = sum(grad.flatten(1).square().sum(dim=1) for grad in self.fuser_grads)
        assert isinstance(squares, Tensor)
        _clip(squares, self.fuser_grads, self._clip)

    def _direction(self) -> Tensor:
        """What the classifier reads of the features: u [R, D, 1]."""
        return torch.bmm(self._stack.params[0].transpose(1, 2), self.params[:, :-1].unsqueeze(2))

    def _delta(self, mixed: Tensor, domains: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and the gradient of the loss to them, [R, B, 1]."""
        vector = self.params[:, :-1].unsqueeze(1)
        offset = torch.bmm(vector, self._stack.params[1]) + self.params[:, -1].view(-1, 1, 1)
        logits = torch.baddbmm(offset, mixed, self._direction())
        delta = (logits.sigmoid() - domains.unsqueeze(2)) * weight.unsqueeze(2)
        return logits, delta


def _clip(squares: Tensor, grads: Sequence[Tensor], clip: float) -> None:
    """Scale each run's gradients to norm ``clip`` at most, as the head's are."""
    scale = (clip / (squares.sqrt() + 1e-6)).clamp(max=1)
    for grad in grads:
        grad.mul_(scale.view(-1, *(1 for _ in grad.shape[1:])))


def _adam(
    params: Sequence[Tensor], grads: Sequence[Tensor], lrs: Sequence[float], factor: float
) -> torch.optim.Adam:
    """An optimiser whose groups are the slices of one learning rate; rates times ``factor``."""
    groups = []
    for lr in dict.fromkeys(lrs):
        part = slice(lrs.index(lr), len(lrs) - lrs[::-1].index(lr))
        own = [param[part] for param in params]
        for param, grad in zip(own, grads, strict=True):
            param.grad = grad[part]
        groups.append({"params": own, "lr": lr * factor})
    cuda = params[0].is_cuda
    return torch.optim.Adam(groups, fused=True, capturable=cuda)


Make = Callable[[list[nn.Parameter], float], torch.optim.Optimizer]
"""An optimiser of the head's kind, from parameters and weight decay."""
Piece = tuple[Tensor, Tensor | None, Tensor]
"""Frames, their counts or lengths, and domains (0…1) of some utterances of a minibatch."""


class FrameAdversary:
    """The domain classifier of one head that is trained by autograd, and the reversed steps.

    ``embed`` is the ``fuser``, whose parameters the reversed step moves: frames and counts to the
    hidden layer [B, width] that the ``output`` layer reads. ``set_rate`` sets the rate of every
    epoch, with the head's.
    """

    def __init__(
        self,
        embed: Callable[[Tensor, Any], Tensor],
        fuser: Sequence[nn.Parameter],
        output: nn.Linear,
        seed: int,
        reversal: float,
        make: Make,
        weight_decay: float = 0.0,
    ) -> None:
        self._embed, self._fuser, self._reversal = embed, list(fuser), reversal
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.classifier = nn.Linear(output.in_features, 1).to(output.weight.device)
        self._optimiser = make(list(self.classifier.parameters()), weight_decay)
        self._reverse = make(self._fuser, 0.0)
        self._counts = DomainCounts(1, output.weight.device)

    def set_rate(self, lr: float) -> None:
        """The rate of the epoch."""
        self._optimiser.param_groups[0]["lr"] = lr
        self._reverse.param_groups[0]["lr"] = lr * self._reversal

    def update(self, batch: Sequence[Piece]) -> None:
        """Steps two and three on a minibatch given in pieces; the fuser's ``grad`` stays."""
        size = sum(len(domains) for _, _, domains in batch)
        self._optimiser.zero_grad()
        for frames, counts, domains in batch:
            with torch.no_grad():
                hidden = self._embed(frames, counts)
            logits = self.classifier(hidden).squeeze(1)
            there = torch.ones_like(logits, dtype=torch.bool)
            self._counts.add((logits > 0)[None], domains[None], there[None])
            (_loss(logits, domains) / size).backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        if not self._reversal:
            return
        # what is there is the first step's, where a minibatch is not yet whole
        kept = [param.grad for param in self._fuser]
        for param, grad in zip(self._fuser, self.reversed_gradients(batch), strict=True):
            param.grad = grad
        self._reverse.step()
        for param, own in zip(self._fuser, kept, strict=True):
            param.grad = own

    def reversed_gradients(self, batch: Sequence[Piece]) -> Iterator[Tensor]:
        """Minus the gradient of the mean domain loss, for each parameter of the fuser."""
        size = sum(len(domains) for _, _, domains in batch)
        sums = [torch.zeros_like(param) for param in self._fuser]
        for frames, counts, domains in batch:
            logits = self.classifier(self._embed(frames, counts)).squeeze(1)
            grads = torch.autograd.grad(-_loss(logits, domains) / size, self._fuser)
            for total, grad in zip(sums, grads, strict=True):
                total.add_(grad)
        yield from sums

    def accuracy(self) -> float:
        """Balanced accuracy since the last call; each minibatch judged before it was learned."""
        return self._counts.take()[0]


def _loss(logits: Tensor, domains: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(logits, domains.to(logits.dtype), reduction="sum")
