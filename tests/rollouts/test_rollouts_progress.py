import io

from assay.rollouts import Reporter


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_gets_lines_at_intervals():
    clock, stream = Clock(), io.StringIO()
    with Reporter("policy 0", 1000, done=200, stream=stream, clock=clock, line_every=10) as reporter:
        for _ in range(8):
            clock.now += 4
            reporter(100, 900)
        reporter.say("done")
    assert stream.getvalue().splitlines() == [
        "policy 0: 500 of 1,000 completions, 225 tokens/s",
        "policy 0: 800 of 1,000 completions, 225 tokens/s",
        "policy 0: done",
    ]
    assert (reporter.completions, reporter.tokens, reporter.seconds, reporter.rate) == (1000, 7200, 32, 225)


def test_a_terminal_gets_a_bar():
    stream = Terminal()
    with Reporter("policy 0", 10, stream=stream) as reporter:
        reporter(10, 50)
        reporter.say("done")
    assert "policy 0: 100%" in stream.getvalue() and "10/10" in stream.getvalue()
    assert "policy 0: done\n" in stream.getvalue()


def test_nothing_sampled_is_no_division_by_zero():
    clock = Clock()
    assert Reporter("x", 1, stream=io.StringIO(), clock=clock).rate == 0
