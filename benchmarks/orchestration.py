"""Seconds of pure orchestration: what DVC and the Prefect flow add to stages that do nothing.

Runs chains of no-op stages of two lengths in temporary projects; the slope is the cost of one more stage, the rest is
the cost of starting. Compared: `dvc repro` of the whole chain, the flow of this project against a Prefect server on
loopback, one `dvc repro --single-item` process per stage (what the flow would cost without its worker), and a bare
`python -c pass`. Prints a table; takes some minutes.

    python -m benchmarks.orchestration --stages 24 --few 4 --repeats 3
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

BINARIES = Path(sys.executable).parent


@dataclass(frozen=True)
class Cost:
    """Seconds: of starting, and of one stage that is run or found unchanged."""

    way: str
    start: float
    run: float
    unchanged: float


def environment(home: Path, port: int | None = None) -> dict[str, str]:
    """Of the measured commands: Prefect's home in `home`, its server on `port`, nothing reported to anybody."""
    path = os.pathsep.join([str(BINARIES), os.environ.get("PATH", os.defpath)])
    quiet = {"DO_NOT_TRACK": "1", "DVC_NO_ANALYTICS": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    address = {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api"} if port else {}
    return {
        **os.environ,
        **quiet,
        **address,
        "PATH": path,
        "PREFECT_HOME": str(home),
        "PREFECT_LOGGING_LEVEL": "WARNING",
    }


def make_chain(root: Path, length: int, variables: dict[str, str]) -> None:
    """A project whose stages only pass on a file, one after the other."""
    for kind, name in {"scale": "tiny", "environment": "arithmetic", "method": "grpo"}.items():
        preset = root / "conf" / kind / f"{name}.yaml"
        preset.parent.mkdir(parents=True)
        preset.touch()
    (root / "params.yaml").write_text("iterations: [{k: 0, next: 1}]\nlast_policy: 1\n")
    before = ["params.yaml", *(f"out/{i}" for i in range(length))]
    lines = (f'  s{i}: {{cmd: "echo {i} > out/{i}", deps: [{before[i]}], outs: ["out/{i}"]}}' for i in range(length))
    (root / "dvc.yaml").write_text("\n".join(["stages:", *lines, ""]))
    (root / "out").mkdir()
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["dvc", "config", "core.check_update", "false"]):
        subprocess.run(command, cwd=root, env=variables, check=True)


def measure(
    command: Callable[[Path], None], folder: Path, lengths: Sequence[int], variables: dict[str, str]
) -> tuple[float, float, float]:
    """(seconds of starting, of one stage that is run, of one unchanged) from chains of two lengths."""
    seconds: dict[tuple[int, str], float] = {}
    for length in lengths:
        root = folder / f"chain{length}"
        root.mkdir(parents=True)
        make_chain(root, length, variables)
        for what in ("run", "unchanged"):
            began = time.perf_counter()
            command(root)
            seconds[length, what] = time.perf_counter() - began
    few, many = lengths
    slopes = {what: (seconds[many, what] - seconds[few, what]) / (many - few) for what in ("run", "unchanged")}
    return seconds[few, "unchanged"] - few * slopes["unchanged"], slopes["run"], slopes["unchanged"]


@contextmanager
def prefect_server(home: Path) -> Iterator[tuple[int, float]]:
    """A Prefect server on loopback: its port, and the seconds that its start took."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.perf_counter()
    with (home / "server.log").open("w") as log:
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        server = subprocess.Popen(command, env=environment(home), stdout=log, stderr=log)
    try:
        while not answers(port):
            if server.poll() is not None:
                raise RuntimeError(f"the Prefect server ended: {(home / 'server.log').read_text()[-2000:]}")
            time.sleep(0.1)
        yield port, time.perf_counter() - began
    finally:
        for process in [*psutil.Process(server.pid).children(recursive=True), server]:
            process.terminate()
        server.wait()


def answers(port: int) -> bool:
    """Whether the server is up."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=5):
            return True
    except OSError:
        return False


def bare_seconds(times: int = 20) -> float:
    """Median seconds of `python -c pass`, started as a process."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stages", type=int, default=24, help="length of the long chain (default: 24)")
    parser.add_argument("--few", type=int, default=4, help="length of the short chain (default: 4)")
    parser.add_argument("--repeats", type=int, default=3, help="the median of so many is shown (default: 3)")
    chosen = parser.parse_args()
    lengths = (chosen.few, chosen.stages)
    with tempfile.TemporaryDirectory() as name, prefect_server(Path(name)) as (port, server_seconds):
        variables = environment(Path(name), port)

        def call(root: Path, *command: str) -> None:
            subprocess.run(command, cwd=root, env=variables, check=True, stdout=subprocess.DEVNULL)

        def one_by_one(root: Path) -> None:
            count = (root / "dvc.yaml").read_text().count("cmd:")
            for i in range(count):
                call(root, "dvc", "repro", "--single-item", f"s{i}")

        ways: dict[str, Callable[[Path], None]] = {
            "`dvc repro`": lambda root: call(root, "dvc", "repro", "--quiet"),
            "the flow": lambda root: call(
                root, sys.executable, "-m", "flows.pipeline", "--no-sync", "--root", str(root)
            ),
            "a `dvc` process per stage": one_by_one,
        }
        costs = []
        for number, (way, command) in enumerate(ways.items()):
            folders = [Path(name) / f"{number}-{repeat}" for repeat in range(chosen.repeats)]
            measured = [measure(command, folder, lengths, variables) for folder in folders]
            costs.append(Cost(way, *(statistics.median(column) for column in zip(*measured, strict=True))))
            print(f"measured: {way}", file=sys.stderr)
    print("| way | seconds to start | seconds per stage that is run | per unchanged stage |")
    print("| --- | ---: | ---: | ---: |")
    for cost in costs:
        print(f"| {cost.way} | {cost.start:.1f} | {cost.run:.3f} | {cost.unchanged:.3f} |")
    print(f"| bare `python -c pass` | 0 | {bare_seconds():.3f} | – |")
    print(f"\nStages: `echo`; chains of {lengths[0]} and {lengths[1]}; median of {chosen.repeats}.", end=" ")
    print(f"The Prefect server took {server_seconds:.0f} s to start (first start: it makes its database).")


if __name__ == "__main__":
    main()
