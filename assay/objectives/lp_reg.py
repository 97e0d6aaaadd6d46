"""Lp-Reg: low-probability tokens that the policy still holds plausible are kept from being extinguished.

Where the policy pi (the one that sampled) puts too little on a token, it is noise: the proxy distribution drops these and
is renormalised, proxy(v) = pi(v) / Z on the support S = {v : pi(v) > tau}, tau = kappa x max pi (min-p) or a constant, Z the
mass of S. Sampled tokens of S that are rare in the batch and have a negative advantage are pulled towards the proxy:

    loss of a token = -clip(r, 0, U) A + beta 1[p(o) < delta] 1[A < 0] 1[o in S] KL(proxy || pi_theta)

The penalty is summed over selected tokens and divided as the policy loss is, by all tokens. On-policy its sampled form acts
as an advantage of A + beta (1/Z - 1). Everything but log pi_theta is constant. Logs are natural; per-token tensors may have
any one shape. Source: "Lp-Reg" (arXiv 2510.03222 version 2) eq. 5, 6; "the code" is the authors' released implementation.
Options that do not fit raise LpRegError.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch

from assay.objectives.divergence import generator, k2
from assay.objectives.entropy import CHUNK_ELEMENTS, tempered_log_softmax
from assay.objectives.policy import Surrogate, ratio
from assay.objectives.selection import SelectionError, check_fraction, extreme, quantile, share, valid

Sign = Literal["negative", "both", "any"]
Form = Literal["sampled_k3", "sampled_k2"]


class LpRegError(SelectionError):
    """A threshold, fraction or form that cannot be used."""


@dataclass(frozen=True)
class Proxy:
    """The proxy distribution at each position, detached."""

    logprobs: torch.Tensor
    """(..., vocabulary), -inf outside the support."""
    log_z: torch.Tensor
    """(...), the log of the policy's mass on the support: exactly 0 where nothing is dropped, -inf where all is."""


@dataclass(frozen=True)
class SampledProxy:
    """What the first pass stores of the proxy; all (tokens,), detached."""

    logprobs: torch.Tensor
    """log pi of the sampled token."""
    max_logprobs: torch.Tensor
    """log pi of the likeliest token: with `logprobs` it tells for any kappa whether the token is kept."""
    kept: torch.Tensor
    """bool: the sampled token is in the support."""
    log_z: torch.Tensor


def proxy(logits: torch.Tensor, kappa: float = 0.02, *, fixed_threshold: float | None = None, temperature: float = 1.0) -> Proxy:
    """Eq. 5: softmax(logits / temperature) without what is at most tau, renormalised. logits: (..., vocabulary).

    tau is kappa x the largest probability, or `fixed_threshold`, which may drop every token. The comparison is strict as in
    the paper (the code's is not), and in float32: a shorter type would flip tokens near tau.
    """
    with torch.no_grad():
        logs = tempered_log_softmax(logits, temperature)
        log_z, kept = _support(logs, kappa, fixed_threshold)
        missing = torch.full((), -math.inf, device=logs.device)
        return Proxy(torch.where(kept, logs - log_z.unsqueeze(-1), missing), log_z)


def sampled_proxy(
    logits: torch.Tensor,
    ids: torch.Tensor,
    kappa: float = 0.02,
    *,
    fixed_threshold: float | None = None,
    temperature: float = 1.0,
) -> SampledProxy:
    """The proxy at the sampled tokens only, in chunks. logits: (tokens, vocabulary). ids: (tokens,)."""
    size = max(1, CHUNK_ELEMENTS // logits.size(-1))
    parts = []
    with torch.no_grad():
        for part, chosen in zip(logits.split(size), ids.unsqueeze(-1).split(size), strict=True):
            logs = tempered_log_softmax(part, temperature)
            log_z, kept = _support(logs, kappa, fixed_threshold)
            parts.append((logs.gather(-1, chosen)[:, 0], logs.amax(-1), kept.gather(-1, chosen)[:, 0], log_z))
    return SampledProxy(*(torch.cat(values) for values in zip(*parts, strict=True)))


def proxy_logprobs(logprobs: torch.Tensor, kept: torch.Tensor, log_z: torch.Tensor, *, keep_dropped: bool = False) -> torch.Tensor:
    """log proxy of the sampled token: log pi - log Z where it is kept, -inf elsewhere.

    keep_dropped: the ablation without a filter. Its exact form is not published; taken here: tokens that the filter drops
    are pulled up as well, towards pi / Z.
    """
    lifted = logprobs.detach() - log_z
    # A fixed threshold may drop every token: then there is no target.
    aimed = ~torch.isneginf(log_z) if keep_dropped else kept
    return torch.where(aimed, lifted, torch.full_like(lifted, -math.inf))


def low_probability_threshold(logprobs: torch.Tensor, mask: torch.Tensor, fraction: float) -> float:
    """delta: the `fraction`-quantile of the probabilities of *all* unmasked tokens handed in, whatever their advantage.

    To be taken once over the generation batch, so that it depends neither on micro-batches nor on processes. Without a
    token it is 0, below which nothing lies.
    """
    check_fraction(fraction, "the fraction of low-probability tokens")
    chosen = valid(logprobs, mask, "logprobs")
    return quantile(chosen.double().exp(), fraction) if chosen.numel() else 0.0


def low_probability(logprobs: torch.Tensor, mask: torch.Tensor, delta: float) -> torch.Tensor:
    """Mask of the tokens whose probability is below delta (strict)."""
    return mask & (logprobs.detach().double().exp() < delta)


def lowest_of_sign(
    logprobs: torch.Tensor, advantages: torch.Tensor, mask: torch.Tensor, fraction: float, *, negative: bool = True
) -> torch.Tensor:
    """The code's candidates instead: of the tokens of one (micro-)batch with negative (or positive) advantage, the
    int(fraction x their number) least probable.

    None where that number is below 2, as in the code: at 1 % that takes 200 negative tokens. The selection depends on how
    rows are divided into micro-batches.
    """
    check_fraction(fraction, "the fraction of low-probability tokens")
    signed = mask & ((advantages < 0) if negative else (advantages > 0))
    number = share(fraction, int(signed.sum()))
    return extreme(logprobs, signed, number if number > 1 else 0, largest=False)


def protected(
    candidates: torch.Tensor,
    advantages: torch.Tensor,
    logprobs: torch.Tensor,
    proxy_logprobs: torch.Tensor,
    *,
    sign: Sign = "negative",
    one_sided: bool = True,
) -> torch.Tensor:
    """Mask of the tokens that bear the penalty: candidates of the given sign of advantage that the proxy keeps.

    candidates: low_probability(...), lowest_of_sign(...), or, as an ablation, the mask of highest entropies. sign: `both`
    means not 0, `any` has no gate. one_sided (the code): only while pi_theta is below the proxy, so that nothing is pulled
    down; on-policy the same tokens, save those where nothing was dropped and the penalty is 0.
    """
    gates = {"negative": advantages < 0, "both": advantages != 0, "any": torch.ones_like(advantages, dtype=torch.bool)}
    if sign not in gates:
        raise LpRegError(f"unknown sign {sign!r}; there are {', '.join(gates)}")
    below = logprobs.detach() < proxy_logprobs if one_sided else ~torch.isneginf(proxy_logprobs)
    return candidates & gates[sign] & below


def penalty(
    logprobs: torch.Tensor,
    proxy_logprobs: torch.Tensor,
    selected: torch.Tensor,
    *,
    form: Form = "sampled_k3",
    ceiling: float | None = None,
) -> torch.Tensor:
    """The penalty from the sampled token alone, with k = log proxy - log pi_theta; exactly 0 outside `selected`.

    sampled_k3 (the code): e^k - k - 1, whose gradient, 1 - proxy / pi_theta on log pi_theta, is that of the forward KL at
    this token. sampled_k2, k^2 / 2: the reverse-KL ablation. ceiling: values are cut there and have no gradient (10 in the
    code; k3 reaches it where the proxy is 13.6 times pi_theta); independent of it k is cut at +-20.
    """
    if form not in ("sampled_k3", "sampled_k2"):
        raise LpRegError(f"unknown form {form!r}; there are sampled_k3, sampled_k2, and forward_kl for the full one")
    # Outside the selection the proxy may be 0, its log infinite: replaced before anything is computed from it.
    zero = torch.zeros_like(logprobs)
    own, target = (torch.where(selected, values, zero) for values in (logprobs, proxy_logprobs.detach()))
    # Of small k, as on-policy, float32 keeps nothing of e^k - k - 1 as it stands; the generator is the same number in full.
    value = generator("forward_kl", target - own) if form == "sampled_k3" else k2(own, target)
    value = value if ceiling is None else value.clamp(max=ceiling)
    return torch.where(selected, value, zero)


def forward_kl(logprobs: torch.Tensor, proxy_logprobs: torch.Tensor) -> torch.Tensor:
    """Eq. 6: KL(proxy || pi_theta), the full-vocabulary form, at each position; gradient on logits pi_theta - proxy.

    Both (..., vocabulary), or (..., k) at the ids of `support`: the sum is over the proxy's support, so a log-softmax over
    the vocabulary gathered there is enough. To be evaluated at selected positions only. An empty support gives 0.
    """
    inside = ~torch.isneginf(proxy_logprobs)
    target = torch.where(inside, proxy_logprobs, torch.zeros_like(proxy_logprobs)).detach()
    gap = torch.where(inside, target - logprobs, torch.zeros_like(logprobs))
    return (target.exp() * gap).sum(-1)


def support(distribution: Proxy, size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """The proxy in `size` places: ids and log-probabilities, both (..., size), to be stored for `forward_kl` off-policy.

    Raises LpRegError where a support is larger: at most 1 / (kappa x largest probability) tokens fit into one.
    """
    size = min(size, distribution.logprobs.size(-1))
    largest = int((~torch.isneginf(distribution.logprobs)).sum(-1).amax())
    if largest > size:
        raise LpRegError(f"a proxy keeps {largest} tokens, more than the {size} that are stored: store more, or raise kappa")
    values, ids = distribution.logprobs.topk(size, dim=-1)
    return ids, values


def capped(logprobs: torch.Tensor, old_logprobs: torch.Tensor, advantages: torch.Tensor, *, cap: float = 10.0) -> Surrogate:
    """-clip(r, 0, U) A: no lower clip and no `min`, so above U neither sign has a gradient (clipped_high says where)."""
    if not cap >= 1:
        raise LpRegError(f"the cap on the ratio is {cap:g}, expected at least 1, the ratio of an unchanged policy")
    r = ratio(logprobs, old_logprobs)
    high = (r.detach() > cap).expand(torch.broadcast_shapes(r.shape, advantages.shape))
    return Surrogate(-r.clamp(max=cap) * advantages, torch.zeros_like(high), high)


def _support(logs: torch.Tensor, kappa: float, fixed_threshold: float | None) -> tuple[torch.Tensor, torch.Tensor]:
    """log Z (...) and the support (..., vocabulary)."""
    name, value = ("kappa", kappa) if fixed_threshold is None else ("the fixed threshold", fixed_threshold)
    if not 0 <= value < 1:
        raise LpRegError(f"{name} is {value:g}, expected at least 0 and below 1")
    log_tau = math.log(value) if value > 0 else -math.inf
    kept = logs > (log_tau if fixed_threshold is not None else logs.amax(-1, keepdim=True) + log_tau)
    zero, nothing = torch.zeros((), device=logs.device), torch.full((), -math.inf, device=logs.device)
    dropped = torch.where(kept, zero, logs.exp()).sum(-1)
    # Near 1 the mass is 1 minus what was dropped: exact where that is nothing, and precise where it is little.
    log_z = torch.where(dropped < 0.5, torch.log1p(-dropped), torch.logsumexp(torch.where(kept, logs, nothing), -1))
    return log_z, kept
