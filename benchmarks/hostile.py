r"""Hostile answers among ordinary ones: what they cost, and what is left of them.

    python -m benchmarks.hostile [--rows 12000] [--share 0.2] [--workers 2] [--timeout 5]

Rows are judged by `verify_trajectories` with the default limits: formulas by math-verify, numbers by the numeric verifier, completions
by a reward function in TRL's convention. First ordinary ones alone, then as many of which `share` are hostile, of every kind
in turn and no two equal. Printed: verdicts per second of both and their ratio, abstentions by reason, the most memory that all processes
held together (pages that they share counted once), processes that are left. The exit code is 1 where an ordinary answer
got a verdict that is not its own, a hostile one is correct, or a process is left.
"""

import argparse
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pyarrow as pa

from assay.environments import Task
from assay.isolation.processes import descendants, is_alive
from assay.params.functions import RewardFunction
from assay.params.verification import VerificationParams
from assay.verifiers import verify_trajectories

MIB = 1 << 20
Answer = Callable[[int], str]
"""A different answer for each number."""

FORMULAS: dict[str, Answer] = {
    "tower of powers": lambda n: f"{n + 2}^{{9^{{9^{{9}}}}}}",
    "negative tower": lambda n: f"2^{{-{n + 10}^{{10}}}}",
    "factorial": lambda n: f"{1_000_000 + n}!",
    "factorial of a factorial": lambda n: f"(({n + 9}!)!)!",
    "many factorials": lambda n: f"{n + 5}" + "!" * 300,
    "huge exponent": lambda n: f"10^{{{999_999_999 + n}}}",
    "scientific": lambda n: f"{n + 1}e999999999",
    "digits": lambda n: str(n + 1) + "7" * 4000,
    "decimals": lambda n: f"0.{n + 1}" + "3" * 4000,
    "fraction of digits": lambda n: f"{n + 1}" + "1" * 1500 + "/" + "3" * 1501,
    "megabytes of digits": lambda n: str(n + 1) + "7" * 2_000_000,
    "megabytes of boxes": lambda n: r"\boxed{" * 200_000 + str(n),
    "ten thousand brackets": lambda n: "(" * 10_000 + str(n) + ")" * 10_000,
    "thousands of brackets": lambda n: "(" * 2_000 + str(n) + ")" * 2_000,
    "fourteen brackets": lambda n: "(" * 14 + f"x+{n}" + ")" * 14,
    "unclosed brackets": lambda n: "(" * 12 + str(n),
    "nested fractions": lambda n: r"\frac{1}{" * 300 + str(n) + "}" * 300,
    "some nested fractions": lambda n: r"\frac{1}{" * 13 + str(n + 2) + "}" * 13,
    "nested roots": lambda n: r"\sqrt{" * 15 + str(n + 2) + "}" * 15,
    "root of digits": lambda n: r"\sqrt{" + "7" * 3000 + f"{n}}}",
    "nested roots of a sum": lambda n: rf"\sqrt{{{n + 2}+\sqrt{{3+\sqrt{{5+\sqrt{{7+\sqrt{{11}}}}}}}}}}",
    "sum": lambda n: rf"\sum_{{k=1}}^{{10^9}} k^{{k+{n}}}",
    "product": lambda n: rf"\prod_{{k=1}}^{{10^8}} (k+{n})",
    "integral": lambda n: rf"\int_0^1 e^{{x^x}} \sin(x^x+{n}) dx",
    "limit": lambda n: rf"\lim_{{x\to 0}} \frac{{\sin(x^{{x^x}})}}{{x^{{1/x}}}} + {n}",
    "gamma": lambda n: rf"\Gamma({10**7 + n})",
    "hyperbolic": lambda n: rf"\sinh({10**8 + n})",
    "nested sines": lambda n: rf"\sin(\sin(\sin(\sin(\sin({n + 1})))))",
    "binomial": lambda n: rf"\binom{{10^9+{n}}}{{5*10^8}}",
    "modulus": lambda n: rf"{n + 2}^{{10^{{10}}}} \mod 7",
    "power of a sum": lambda n: f"(x+y+z+{n + 1})^{{60}}",
    "product of powers": lambda n: f"(x+{n + 1})^{{99}}(y+1)^{{99}}",
    "long polynomial": lambda n: "+".join(f"x^{{{i}}}y^{{{i + n}}}" for i in range(300)),
    "long set": lambda n: r"\{" + ",".join(map(str, range(n, n + 700))) + r"\}",
    "long tuple": lambda n: "(" + ",".join([f"x^2+{n}"] * 350) + ")",
    "long sum": lambda n: "1+" * 1800 + str(n + 2),
    "many variables": lambda n: f"x_{{{n}}}" * 500,
    "matrix": lambda n: r"\begin{pmatrix}" + r"\\".join(" & ".join(["x"] * 20) for _ in range(20)) + rf" {n}\end{{pmatrix}}",
    "union": lambda n: r"\cup".join([f"({n},{n + 1})"] * 150),
    "logarithm of zero": lambda n: rf"\log_{{\log 1}}(0)+{n}",
    "infinity": lambda n: rf"\infty^{{\infty}}-{n}\infty",
    "complex tower": lambda n: f"i^{{i^{{i^{{i+{n}}}}}}}",
    "macro": lambda n: rf"\def\a{{\a\a}}\a {n}",
    "file": lambda n: rf"\input{{/etc/passwd}} {n}",
    "environments": lambda n: r"\begin{" * 500 + str(n),
    "commands": lambda n: r"\sqrt" * 600 + str(n),
    "bars": lambda n: "|" * 300 + str(n),
    "signs": lambda n: "-" * 3000 + str(n + 5),
    "spaces": lambda n: " " * 1900 + str(n) + " " * 1900 + "%",
    "backslashes": lambda n: "\\" * 4000 + str(n),
    "dollars": lambda n: "$" * 3000 + str(n),
    "letters and a mark": lambda n: "a" * 3000 + "!" * (n % 50 + 1) + str(n),
    "thousands of separators": lambda n: "1," * 1900 + str(n),
    "repeated marker": lambda n: "the answer is " * 250 + f"x{n}y",
    "arabic digits": lambda n: "\u0661\u0662\u0663" * (n % 100 + 1) + str(n),
    "zero width": lambda n: f"1\u200b2\u200b{n}",
    "right to left": lambda n: f"\u202e{n}/2",
    "combining": lambda n: "1" + "\u0301" * 2500 + str(n),
    "emoji": lambda n: "\U0001f600" * 800 + str(n),
    "null bytes": lambda n: f"1\x00{n}",
    "control characters": lambda n: "".join(map(chr, range(1, 32))) * 20 + str(n),
    "superscripts": lambda n: f"{n + 2}" + "\u2079" * 50,
    "code": lambda n: f"__import__('os').system('exit {n}')",
    "lambda": lambda n: f"(lambda f: f(f))(lambda f: f(f)) + {n}",
    "markup": lambda n: "<div>" * 700 + str(n),
    "braces of JSON": lambda n: '{"a":' * 700 + str(n),
}
"""Answers for math-verify and for the numeric verifier."""
COMPLETIONS = {
    "exit": "crash", "abort": "crash", "segfault": "crash", "close everything": "crash", "many processes": "crash",
    "hang": "timeout", "spin": "timeout", "stop": "timeout",
    "eat": "memory", "eat and go on": "memory", "eating processes": "memory",
    "network": "error", "write": "error", "kill the parent": "error", "signal everyone": "error", "raise": "error", "leave": "error",
    "nothing": "error", "nan": "error", "text": "error", "two": "error", "million": "error", "recursion": "error",
    "huge exception": "error", "endless list": "error",
    "thread": "different", "busy thread": "different", "orphan": "different", "daemon": "different", "fork": "different",
}  # fmt: skip
"""Completions on which the reward function does harm, with the reason of their verdicts."""
REWARDS = r'''
import ctypes, os, signal, socket, subprocess, sys, threading, time

def busy():
    while True:
        pass

def eat(share=10.0):
    hoard = []
    for _ in range(int(share * 128)):
        hoard.append(b"x" * (8 << 20))
    time.sleep(60)

class Endless(list):
    def __iter__(self):
        while True:
            yield 1.0

class Huge(Exception):
    def __str__(self):
        return "x" * (200 << 20)

def score(completions, answer, **kwargs):
    said = completions[0].partition("#")[0]
    if said == "exit": os._exit(3)
    if said == "abort": os.abort()
    if said == "segfault": ctypes.string_at(0)
    if said == "hang": time.sleep(600)
    if said == "spin": busy()
    if said == "eat": eat()
    if said == "eat and go on":
        try: eat()
        except MemoryError: return [1.0]
    if said == "many processes":
        for _ in range(150): subprocess.Popen(["sleep", "86429"])
        time.sleep(600)
    if said == "eating processes":
        for _ in range(6):
            if os.fork() == 0: eat(0.5)
        time.sleep(600)
    if said == "thread": threading.Thread(target=time.sleep, args=(600,)).start()
    if said == "busy thread": threading.Thread(target=busy, daemon=True).start()
    if said == "orphan": subprocess.Popen(["sleep", "86429"], start_new_session=True)
    if said == "daemon" and os.fork() == 0:
        os.setsid()
        if os.fork() == 0: os.execvp("sleep", ["sleep", "86429"])
        os._exit(0)
    if said == "fork": os.fork()
    if said == "network": socket.create_connection(("127.0.0.1", 9), timeout=1)
    if said == "write":
        with open("/tmp/assay-hostile", "w") as stream: stream.write("x" * 1_000_000)
    if said == "kill the parent": os.kill(os.getppid(), signal.SIGKILL)
    if said == "signal everyone": os.kill(-1, 0)
    if said == "raise": raise KeyError(said)
    if said == "leave": sys.exit(0)
    if said == "nothing": return None
    if said == "nan": return [float("nan")]
    if said == "text": return ["1.0"]
    if said == "two": return [1.0, 1.0]
    if said == "endless list": return Endless()
    if said == "huge exception": raise Huge
    if said == "recursion": return [score(completions, answer)[0]]
    if said == "close everything": os.closerange(0, 100)
    if said == "million": return [1.0] * 1_000_000
    if said == "stop": os.kill(os.getpid(), signal.SIGSTOP)
    return [float(said.strip() == answer[0])]
'''


@dataclass
class Row:
    """One answer to be judged. kind: empty for an ordinary one, which has an expected verdict."""

    task: Task
    text: str
    kind: str = ""
    expected: str = ""
    """Verdict of an ordinary one."""


@dataclass
class Usage:
    """What processes below this one have held and left."""

    peak: int = 0
    """Bytes, this process included."""
    own: int = 0
    left: list[int] = field(default_factory=list)
    seconds: float = 0.0


def ordinary(number: int, random: Random) -> Row:
    """An answer of a kind that policies give, a third of them each to a formula, to a number and to a completion that is scored."""
    a, b = random.randint(2, 60), random.choice((2, 3, 5, 6, 7, 10, 11, 13))
    right = random.random() < 0.6
    expected = "correct" if right else "wrong"
    match number % 3:
        case 0:
            task = Task.create("formulas", "train", f"{number}: a root", rf"{a}\sqrt{{{b}}}", "math_verify")
            return Row(task, rf"\sqrt{{{a * a * b + (0 if right else random.randint(1, 9))}}}", expected=expected)
        case 1:
            task = Task.create("numbers", "train", f"{number}: a quotient", f"{a}/{b}", "numeric")
            return Row(task, rf"so \boxed{{\frac{{{a * 3 + (0 if right else 1)}}}{{{b * 3}}}}}", expected=expected)
    task = Task.create("completions", "train", f"{number}: a sum", str(a + b), "math_verify")
    return Row(task, f"{a + b if right else a - b}#{number}", expected=expected)


def hostile(number: int, kinds: Sequence[str]) -> Row:
    """The next kind in turn."""
    kind, turn = kinds[number % len(kinds)], number // len(kinds)
    if kind in COMPLETIONS:
        task = Task.create("completions", "train", f"{number}: a sum", "no such answer", "math_verify")
        return Row(task, f"{kind}#{turn}", kind)
    verifier, gold = (("numeric", "3/4"), ("math_verify", "3/4"), ("math_verify", r"2\sqrt{3}"))[turn % 3]
    return Row(Task.create("hostile", "train", f"{number}: {kind}", gold, verifier), FORMULAS[kind](turn), kind)


def mixture(count: int, share: float, seed: int = 0, kinds: Sequence[str] = (*FORMULAS, *COMPLETIONS)) -> list[Row]:
    """`count` rows in an order by chance, `share` of them hostile."""
    random = Random(seed)
    rows = [hostile(number, kinds) for number in range(round(count * share))]
    rows += [ordinary(number, random) for number in range(count - len(rows))]
    random.shuffle(rows)
    return rows


def judge(rows: Sequence[Row], params: VerificationParams, workers: int) -> list[tuple[str, str]]:
    """(verdict, reason) of each row by its task's verifier, completions by the reward function. Both in one pass over one table each."""
    by_function = [row.task.environment == "completions" for row in rows]
    function = RewardFunction(name="score", source=REWARDS)
    scored = params.model_copy(update={"functions": {"score": function}, "rule": "score"})
    found: dict[int, tuple[str, str]] = {}
    for own, options in ((False, params), (True, scored)):
        numbers = [number for number, is_own in enumerate(by_function) if is_own == own]
        if not numbers:
            continue
        chosen = [rows[number] for number in numbers]
        table = pa.table({
            "trajectory_id": [str(number) for number in numbers], "iteration": pa.array([0] * len(chosen), pa.int32()),
            "round": pa.array([0] * len(chosen), pa.int32()), "task_id": [row.task.task_id for row in chosen],
            "kind": ["solution"] * len(chosen), "text": [row.text for row in chosen],
        })  # fmt: skip
        verdicts = verify_trajectories({row.task.task_id: row.task for row in chosen}, table, options, workers)
        said = zip(verdicts["verdict"].to_pylist(), verdicts["reason"].to_pylist(), strict=True)
        found |= dict(zip(numbers, said, strict=True))
    return [found[number] for number in range(len(rows))]


def proportional(pid: int) -> int:
    """Bytes of a process, pages that it shares with others divided among them: between fork and exec a child "has" all of its parent."""
    try:
        fields = Path(f"/proc/{pid}/smaps_rollup").read_text().split()
    except OSError:
        return 0  # it has ended
    return int(fields[fields.index("Pss:") + 1]) * 1024


@contextmanager
def watched(interval: float = 0.02) -> Iterator[Usage]:
    """Memory and processes of the block. Processes that were there before are left out."""
    before, usage, ended = {one.pid for one in descendants(os.getpid())}, Usage(), threading.Event()
    usage.own = proportional(os.getpid())

    def watch() -> None:
        while not ended.wait(interval):
            family = [one.pid for one in descendants(os.getpid()) if one.pid not in before]
            usage.peak = max(usage.peak, sum(map(proportional, (os.getpid(), *family))))

    watcher, began = threading.Thread(target=watch), time.monotonic()
    watcher.start()
    try:
        yield usage
    finally:
        usage.seconds = time.monotonic() - began
        ended.set()
        watcher.join()
        usage.left = [one.pid for one in descendants(os.getpid()) if one.pid not in before and is_alive(one)] + sleepers()


def sleepers() -> list[int]:
    """Processes that hostile completions have started, wherever they hang by now."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[:2] == [b"sleep", b"86429"]:
                found.append(int(name))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=12_000)
    parser.add_argument("--share", type=float, default=0.2, help="of hostile answers (default: 0.2)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=VerificationParams().timeout)
    arguments = parser.parse_args()
    params = VerificationParams(reference="none", oracle=False, timeout=arguments.timeout)
    sys.exit(report(arguments.rows, arguments.share, params, arguments.workers))


def report(count: int, share: float, params: VerificationParams, workers: int) -> int:
    """Measure and print; 0 where nothing is amiss."""
    mixed, plain = mixture(count, share), mixture(count, 0.0)
    with watched() as calm:
        before = judge(plain, params, workers)
    with watched() as storm:
        said = judge(mixed, params, workers)
    suffered = [(row, what) for row, what in zip(mixed, said, strict=True) if not row.kind and what[0] != row.expected]
    suffered += [(row, what) for row, what in zip(plain, before, strict=True) if what[0] != row.expected]
    accepted = Counter(row.kind for row, (verdict, _) in zip(mixed, said, strict=True) if row.kind and verdict == "correct")
    bad = sum(bool(row.kind) for row in mixed)
    print(f"{count:,} answers, {bad:,} of them hostile, of {len(FORMULAS) + len(COMPLETIONS)} kinds; {workers} workers, limits of ", end="")
    print(f"{params.timeout:g} s and {params.memory_mib} MiB\n")
    print(f"{'':<34}{'seconds':>9}{'per second':>12}{'peak MiB':>10}{'processes left':>16}")
    for name, use in (("ordinary answers alone", calm), ("the same number, with hostile ones", storm)):
        print(f"{name:<34}{use.seconds:>9.1f}{count / use.seconds:>12.0f}{use.peak / MIB:>10.0f}{len(use.left):>16}")
    reasons = Counter((verdict, reason) for row, (verdict, reason) in zip(mixed, said, strict=True) if row.kind)
    waits = sum(number for (_, reason), number in reasons.items() if reason == "timeout")
    spent = waits * params.timeout / workers
    print(f"\nratio {calm.seconds / storm.seconds:.3f}; {waits} answers ran into the time limit, which is {spent:.0f} s of it ", end="")
    print(f"(without them {calm.seconds / max(storm.seconds - spent, 1e-9):.2f})")
    print("\nhostile answers:")
    for (verdict, reason), number in reasons.most_common():
        kinds = Counter(row.kind for row, what in zip(mixed, said, strict=True) if row.kind and what == (verdict, reason))
        shown = ", ".join(kind for kind, _ in kinds.most_common(6)) + (f" and {len(kinds) - 6} more kinds" if len(kinds) > 6 else "")
        print(f"  {number:>6}  {verdict} ({reason}): {shown}")
    print(f"\nordinary answers with a verdict that is not theirs: {len(suffered)}; hostile answers that are correct: {accepted.total()}")
    for row, now in suffered[:5]:
        print(f"  {row.task.gold!r}, {row.text[:60]!r}: {now}")
    for kind, number in accepted.items():
        print(f"  {number} x {kind}")
    return int(bool(suffered or accepted or calm.left or storm.left))


if __name__ == "__main__":
    main()
