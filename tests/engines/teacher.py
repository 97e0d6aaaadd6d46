"""What an engine should have reported: log-probabilities of given completions, from one plain forward pass each."""


def forced_logprobs(model, request, ids):
    """Per token of `ids`, nats: the distribution after temperature and top_p (greedy: temperature 1, nothing cut)."""
    import torch

    with torch.no_grad():
        logits = model(torch.tensor([request.prompt_ids + tuple(ids)])).logits[0, len(request.prompt_ids) - 1 : -1]
    logprobs = (logits / (request.temperature or 1.0)).log_softmax(-1)
    values = []
    for row, token in zip(logprobs, ids, strict=True):
        value = row[token]
        if request.temperature > 0 and request.top_p < 1:
            probability, order = row.exp().sort(descending=True)
            nucleus = (probability.cumsum(0) - probability) < request.top_p
            assert token in order[nucleus].tolist(), "a token outside the nucleus was sampled"
            value = value - probability[nucleus].sum().log()
        if request.temperature == 0:
            assert float(row.max() - value) < 1e-5, "greedy decoding took another token than the best"
        values.append(float(value))
    return values


def largest_difference(model, requests, completions):
    """Largest |reported - forced| over all tokens, nats."""
    worst = 0.0
    for request, completion in zip(requests, completions, strict=True):
        forced = forced_logprobs(model, request, completion.ids)
        worst = max([worst, *(abs(a - b) for a, b in zip(forced, completion.logprobs, strict=True))])
    return worst
