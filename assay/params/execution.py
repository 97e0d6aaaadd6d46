"""Settings that change speed and memory but never a result: no stage depends on them, changing one runs nothing again."""

from pydantic import Field

from assay.params.base import Section


class ServerAccess(Section):
    """Where the servers of sampling.engine {type: server} are, and how they are asked."""

    urls: tuple[str, ...] = ()
    """Base addresses, e.g. http://127.0.0.1:8000/v1; requests are spread over them."""
    api_key_variable: str = "ASSAY_API_KEY"
    """Environment variable that holds the key, if one is needed."""
    timeout: float = Field(600, gt=0)
    """Seconds for one request."""
    retries: int = Field(4, ge=0)
    """Further tries of a request that failed."""
    concurrency: int = Field(256, ge=1)
    """Requests at once to each server. vLLM runs 256 sequences at once and more; fewer leave it idle."""


class JudgeAccess(ServerAccess):
    """Where the servers of verification.appeals.judge {type: endpoint} are. A judge that is down or slow abstains."""

    timeout: float = Field(60, gt=0)
    """Seconds for one request."""
    retries: int = Field(2, ge=0)
    """Further tries of a request that failed."""
    concurrency: int = Field(16, ge=1)
    """Requests at once."""


class TeacherAccess(ServerAccess):
    """Where the servers of environments.NAME.backend {type: endpoint} are."""

    timeout: float = Field(180, gt=0)
    """Seconds for one request."""
    concurrency: int = Field(8, ge=1)
    """Environments that are built at once; each asks one question at a time."""


class ExecutionParams(Section):
    """Machine settings."""

    server: ServerAccess = ServerAccess()
    judge: JudgeAccess = JudgeAccess()
    teacher: TeacherAccess = TeacherAccess()
    verifier_workers: int = Field(2, ge=1)
    """Worker processes for verdicts."""
    vllm_memory_gib: float = Field(1.0, gt=0)
    """On a CPU: room for vLLM's key-value cache; must hold a whole shard. On a GPU use gpu_memory_share."""
    gpu_memory_share: float | None = Field(None, gt=0, le=1)
    """Share of the card's memory that vLLM may take; null: 0.85, and in fused rounds what fits beside the trainer if that is less."""
    state_every: int = Field(1, ge=1)
    """Every so many fused rounds the whole training state is written, in others the policy alone. A killed run plays the rounds since then
    again."""
    threads: int | None = Field(None, ge=1)
    """Threads of torch; null: one per core."""
    accelerate_launch: tuple[str, ...] = ()
    """Arguments of `accelerate launch`, e.g. ["--num_processes", "8", "--multi_gpu"]: updates then run in so many processes.
    Empty: in one."""
    stage_timeout_minutes: float = Field(120, gt=0)
    """The flow ends a stage that runs longer."""
    stage_retries: int = Field(1, ge=0)
    """How often the flow runs a failed stage again."""
