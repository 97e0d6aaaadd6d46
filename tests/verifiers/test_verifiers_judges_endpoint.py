"""The judge behind an endpoint, against real HTTP servers that fail on purpose: it costs little then and accuses nobody."""

import json
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))
from loopback import Scripted
from rigged_judge import case, opened

from assay.params.execution import JudgeAccess
from assay.params.noise import EndpointJudge
from assay.verifiers import REASONS
from assay.verifiers.judges import Cost
from assay.verifiers.judges.endpoint import PATIENCE, EndpointAppeals

CHAT = "/v1/chat/completions"


def says(text, tokens=(300, 2), **choice):
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
    return 200, {"choices": [{"message": {"role": "assistant", "content": text}, **choice}], "usage": usage}


def serving(*answers, models="judge"):
    return Scripted({"/v1/models": [(200, {"data": [{"id": models}]})], "/v1/chat/completions": list(answers)})


def numbered(count):
    return [case(f"0.{index + 1}", trajectory_id=f"t{index}") for index in range(count)]


def test_replies_come_in_the_order_of_cases_equal_ones_are_asked_once_and_the_cost_is_counted():
    server = serving(says("True"), says("False."), says("who knows"))
    answers = ["0.5", "0.7", "0.5", "maybe", "1/2", "", "0.7", "x" * 5000]
    with opened(EndpointJudge(model="m"), urls=[server.url], concurrency=1) as judge:
        findings = judge.decide([case(answer) for answer in answers])
        assert [(f.verdict, f.reason) for f in findings] == [
            ("correct", "equal"), ("wrong", "different"), ("correct", "equal"), ("abstain", "judge_unparseable"), ("correct", "equal"),
            ("wrong", "unparseable"), ("wrong", "different"), ("wrong", "too_long"),
        ]  # fmt: skip
        assert json.loads(findings[3].components) == {"said": "who knows"}
        assert server.asked == [CHAT] * 3 and judge.cost == Cost(calls=3, tokens=906)
        assert judge.decide([]) == [] and judge.cost == Cost()
        asked = judge.decide([case("0.5", question="Another?")])
        assert asked[0].reason == "judge_unparseable" and judge.cost.calls == 1
    assert {finding.reason for finding in findings} <= REASONS.keys()


def test_many_cases_in_parallel_keep_their_order():
    """The server accepts what it finds under ANSWER where the number after the point is even."""

    def reply(body):
        answer = body["messages"][-1]["content"].split("=== ANSWER ===\n| 0.")[1].split("\n")[0]
        assert (body["temperature"], body["max_tokens"], body["model"]) == (0, 8, "m")
        return says("True" if int(answer) % 2 == 0 else "False")

    server = Answering(reply)
    cases = numbered(200)
    with opened(EndpointJudge(model="m"), urls=[server.url]) as judge:
        verdicts = [finding.verdict for finding in judge.decide(cases)]
    assert verdicts == ["correct" if (index + 1) % 2 == 0 else "wrong" for index in range(200)]
    assert server.asked == 200


class Answering(ThreadingHTTPServer):
    """Replies to each chat request by a function of its body, which may wait or write bytes itself."""

    daemon_threads = True

    def __init__(self, reply):
        self.reply, self.asked, self.lock = reply, 0, threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked += 1
        answer = self.server.reply(body) if not isinstance(self.server.reply, Drip) else self.server.reply.write(self)
        if answer is None:
            return
        data = json.dumps(answer[1]).encode()
        self.send_response(answer[0])
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


class Drip:
    """An answer that goes on, byte by byte, each well within the time-out of a read."""

    def __init__(self):
        self.end = threading.Event()

    def write(self, handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        try:
            while not self.end.wait(0.02):
                handler.wfile.write(b" ")
                handler.wfile.flush()
        except OSError:
            pass


def judge_of(*urls, clock=lambda: 0.0, pauses=None, model="m", **access):
    """A judge whose clock stands still and whose pauses take no time."""
    options = {"urls": urls, "timeout": 5, "retries": 1, "concurrency": 4} | access
    note = [].append if pauses is None else pauses.append
    return EndpointAppeals(EndpointJudge(model=model), JudgeAccess(**options), 4096, clock=clock, pause=note)


def expect_abstentions(judge, cases, caplog, words):
    """All abstain, in the record without an address, and people are told once and with it."""
    caplog.clear()
    findings = judge.decide(cases)
    assert {(f.verdict, f.reason, f.components) for f in findings} == {("abstain", "judge_unreachable", None)}
    assert len(findings) == len(cases)
    (record,) = caplog.records
    assert words in record.getMessage() and f"abstains on {len(cases)} of {len(cases)} answers" in record.getMessage()
    return record.getMessage()


NONSENSE = [
    ((200, "<html>hello</html>"), "the answer is not JSON"),
    ((200, ""), "no chat completion"),
    ((200, "null"), "no chat completion"),
    ((200, "[1, 2]"), "no chat completion"),
    ((200, {"choices": []}), "no chat completion"),
    ((200, {"choices": [{"text": "True"}]}), "no chat completion"),
    ((200, {"choices": {"0": "True"}}), "no chat completion"),
    ((200, {"error": "True"}), "no chat completion"),
    ((200, "[" * 200_000), "recursion"),
    ((500, "True"), "HTTP 500: True; gave up after 2 tries: check that the server runs and that execution.judge.urls are right"),
    ((429, {"error": {"message": "slow down"}}), "HTTP 429: slow down"),
    ((401, {"error": {"message": "bad key"}}), "the server refuses (HTTP 401: bad key)"),
    ((404, {"detail": "Not Found"}), "the server refuses (HTTP 404: Not Found)"),
]


@pytest.mark.parametrize(("answer", "words"), NONSENSE, ids=range(len(NONSENSE)))
def test_what_is_no_reply_makes_every_case_abstain_after_few_requests(answer, words, caplog):
    server = serving(answer)
    judge = judge_of(server.url)
    message = expect_abstentions(judge, numbered(500), caplog, words)
    assert message.endswith("; it is not asked again for a while")
    tries = 2 if answer[0] in (429, 500) else 1
    assert len(server.asked) == PATIENCE * tries and judge.cost == Cost(calls=PATIENCE)
    caplog.clear()
    assert {f.reason for f in judge.decide(numbered(500))} == {"judge_unreachable"}
    assert len(server.asked) == PATIENCE * tries and judge.cost == Cost() and not caplog.records


def test_a_dead_address_is_named_once_and_left_alone(caplog):
    server = serving(says("True"))
    server.shutdown()
    server.server_close()
    pauses = []
    judge = judge_of(server.url, pauses=pauses)
    expect_abstentions(judge, numbered(1000), caplog, f"{server.url}/chat/completions: ConnectError")
    assert pauses == [0.5] * PATIENCE


@pytest.mark.parametrize("reply", ["silent", "dripping"])
def test_a_slow_endpoint_costs_its_time_a_few_times_only(reply, caplog):
    drip = Drip()
    server = Answering(drip if reply == "dripping" else lambda body: drip.end.wait(30) and None)
    judge = judge_of(server.url, timeout=0.2, retries=1)
    expect_abstentions(judge, numbered(1000), caplog, "ReadTimeout")
    drip.end.set()
    assert server.asked == PATIENCE * 2


def test_an_endpoint_that_dies_on_the_way_keeps_its_verdicts_and_is_asked_again_one_case_first(caplog):
    now = [0.0]
    server = serving(*[says("True")] * 20, (500, "down"))
    judge = judge_of(server.url, clock=lambda: now[0], retries=0)
    verdicts = Counter(finding.verdict for finding in judge.decide(numbered(300)))
    assert verdicts == {"correct": 20, "abstain": 280}
    # A right reply that arrives late counts the failures from 0 again; and then those that were on their way.
    assert 20 + PATIENCE <= len(server.asked) <= 20 + (PATIENCE - 1) + PATIENCE + 4

    before, now[0] = len(server.asked), 61.0
    expect_abstentions(judge, numbered(300), caplog, "HTTP 500: down")
    assert len(server.asked) == before + 1
    now[0] = 61.0 + 119  # the second rest is twice as long
    judge.decide(numbered(300))
    assert len(server.asked) == before + 1
    server.answers[CHAT] = [says("False")]
    now[0] = 61.0 + 121
    assert {finding.verdict for finding in judge.decide(numbered(300))} == {"wrong"}
    assert len(server.asked) == before + 301


def test_single_failures_cost_single_cases(caplog):
    pattern = [says("True"), says("True"), (400, {"error": {"message": "too long"}}), says("True")]
    server = serving(*pattern * 25)
    judge = judge_of(server.url, concurrency=1)
    verdicts = Counter(finding.verdict for finding in judge.decide(numbered(100)))
    assert verdicts == {"correct": 75, "abstain": 25} and len(server.asked) == 100
    (record,) = caplog.records
    assert "abstains on 25 of 100 answers" in record.getMessage() and "not asked again" not in record.getMessage()


def test_cost_is_what_the_server_reports_and_nothing_where_it_reports_nonsense():
    odd = [{"prompt_tokens": "9", "completion_tokens": -4}, {"prompt_tokens": True, "completion_tokens": 3}, [1], None, {}]
    server = serving(*[(200, says("True")[1] | {"usage": usage}) for usage in odd])
    judge = judge_of(server.url, concurrency=1)
    assert {finding.verdict for finding in judge.decide(numbered(5))} == {"correct"}
    assert judge.cost == Cost(calls=5, tokens=3)
    thinker = serving((200, {"choices": [{"message": {"content": None, "reasoning_content": "True"}}]}))
    assert judge_of(thinker.url).decide([case("0.9")])[0].reason == "judge_unparseable"


def test_the_served_model_is_found_and_named_without_its_path():
    server = serving(says("True"), models="/somewhere/models/judge-7b")
    judge = judge_of(server.url, model=None)
    assert (judge.name, server.asked) == ("endpoint:judge-7b", ["/v1/models"])
    assert judge.decide([case("0.5")])[0].verdict == "correct"
    other = serving(models="other")
    with pytest.raises(ValueError, match=r"execution\.judge\.urls serve different models \(/somewhere/models/judge-7b, other\)"):
        judge_of(server.url, other.url, model=None)
    assert judge_of(server.url, model="org/name").name == "endpoint:org/name"
    versions = {judge_of(server.url, model=name).version for name in ("a", "b")}
    assert len(versions) == 2 and judge.version == judge_of(server.url, model=None).version


def test_a_model_that_nobody_names_yet_is_asked_for_again_later(caplog):
    now = [0.0]
    server = Scripted({"/v1/models": [(503, "starting"), (503, "starting"), (200, {"data": [{"id": "late"}]})], CHAT: [says("True")]})
    judge = judge_of(server.url, model=None, clock=lambda: now[0])
    assert judge.name == "endpoint:unknown" and "HTTP 503: starting" in caplog.text
    assert judge.decide([case("0.5")])[0].reason == "judge_unreachable" and len(server.asked) == 2
    now[0] = 61.0
    assert judge.decide([case("0.5")])[0].verdict == "correct" and judge.name == "endpoint:late"


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host/v1", "http://", "http://host:99999/v1", "http://[::1/v1", ""])
def test_an_address_that_is_none_is_said_before_anything_is_asked(url):
    with pytest.raises(ValueError, match=r"execution\.judge\.urls holds .* which is no address"), opened(EndpointJudge(), urls=[url]):
        pass


def test_no_address_is_one_clear_error():
    with pytest.raises(ValueError, match=r"execution\.judge\.urls is empty: list there"), opened(EndpointJudge()):
        pass


def test_a_closed_judge_holds_no_connection():
    server = serving(says("True"))
    with opened(EndpointJudge(model="m"), urls=[server.url]) as judge:
        judge.decide([case("0.5")])
        client = judge._endpoints._client
    assert client.is_closed
