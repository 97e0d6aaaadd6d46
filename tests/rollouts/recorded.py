"""A real engine whose requests and completions are written down."""


class Recorded:
    def __init__(self, engine):
        self.engine, self.name, self.version = engine, engine.name, engine.version
        self.batches = []
        """(requests, completions) of each call."""

    def generate(self, requests, progress=None):
        completions = self.engine.generate(requests, progress)
        self.batches.append((list(requests), completions))
        return completions

    def completion_of(self, prompt_ids, seed):
        """What was sampled after exactly these tokens with this seed."""
        found = [
            completion for requests, completions in self.batches for request, completion in zip(requests, completions, strict=True)
            if (request.prompt_ids, request.seed) == (tuple(prompt_ids), seed)
        ]  # fmt: skip
        assert len(found) == 1
        return found[0]


class Watched:
    """A real engine whose progress a test hears of too, and can stop the run at."""

    def __init__(self, engine, hear):
        self.engine, self.hear, self.name, self.version = engine, hear, engine.name, engine.version

    def generate(self, requests, progress):
        def both(completions, tokens):
            progress(completions, tokens)
            self.hear(completions, tokens)

        return self.engine.generate(requests, both)


def check_ids(tables, recorded, renderer):
    """Every turn's stored tokens are those that the engine gave, after a prompt of exactly the stored tokens before it; what lies between
    two turns is what the tools said, encoded once, without loss and likelihood."""
    from assay.trajectories import seed_from

    calls = {}
    for call in tables.tool_calls.to_pylist():
        if call["status"] != "dropped":
            calls.setdefault((call["trajectory_id"], call["turn_index"]), []).append({"role": "tool", "content": call["feedback"]})
    turns = {}
    for turn in tables.turns.to_pylist():
        turns.setdefault(turn["trajectory_id"], []).append(turn)
    checked = 0
    for row in tables.trajectories.to_pylist():
        ids, mask, logprobs = row["completion_ids"], row["loss_mask"], row["sampled_logprobs"]
        end, own = 0, turns[row["trajectory_id"]]
        for number, turn in enumerate(own):
            start, stop = turn["start"], turn["start"] + turn["tokens"]
            if number:
                said = calls[row["trajectory_id"], own[number - 1]["turn_index"]]
                assert tuple(ids[end:start]) == renderer.continuation_ids(said)
                assert not any(mask[end:start]) and not any(logprobs[end:start])
                checked += 1
            else:
                assert start == 0
            seed = row["sampling"]["seed"]
            seed = seed if row["kind"] == "solution" else seed_from(seed, "turn", number)
            completion = recorded.completion_of((*row["prompt_ids"], *ids[:start]), seed)
            assert tuple(ids[start:stop]) == completion.ids and tuple(logprobs[start:stop]) == completion.logprobs
            assert all(mask[start:stop]) and turn["text"] == renderer.text(completion.ids)
            end = stop
        assert end == len(ids) and row["finish_reason"] == completion.finish_reason
        assert row["text"] == renderer.text(ids)
    return checked
