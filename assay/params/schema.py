"""The whole of params.yaml as one typed value, and the part of it that each stage sees."""

from pydantic import Field, ValidationInfo, model_validator

from assay.params.base import Section
from assay.params.data import DATASET_VERIFIERS, EnvironmentParams, TasksParams, UserDataset
from assay.params.execution import ExecutionParams
from assay.params.exploration import PresampleParams
from assay.params.fused import FusedParams
from assay.params.noise import EndpointJudge, NoNoise, SimulatedJudge, SymbolicJudge, turns_verdicts
from assay.params.policy import PolicyParams, WarmStartParams
from assay.params.protocols import SCORED
from assay.params.rewards import RewardParams
from assay.params.sampling import EvaluationParams, SamplingParams, ServerEngine
from assay.params.self_verification import SelfVerification
from assay.params.stepwise import Stepwise
from assay.params.token_rewards import check_token_rewards
from assay.params.tools import check_tools
from assay.params.training import Corrected, TrainingParams
from assay.params.verification import FilterParams, VerificationParams


class Iteration(Section):
    """One unrolled iteration: policy `k` is sampled and trained into policy `next`. (DVC templates cannot add one.)"""

    k: int = Field(ge=0)
    """The policy that is sampled."""
    next: int = Field(ge=1)
    """The policy that comes of it: k + 1."""


class Params(Section):
    """Every parameter of a run, resolved: library defaults, then presets (scale, environment, method), then params.yaml."""

    method: str = "grpo"
    """Preset conf/method/NAME.yaml."""
    scale: str = "tiny"
    """Preset conf/scale/NAME.yaml."""
    environment: str = "arithmetic"
    """Preset conf/environment/NAME.yaml."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Of tasks, samples, batches and first weights."""
    iterations: tuple[Iteration, ...] = ()
    last_policy: int | None = Field(None, ge=0)
    """`next` of the last iteration: the policy that `finish` evaluates. (Stated because DVC templates cannot compute it.)"""
    environments: dict[str, EnvironmentParams] = {}
    """Task families by name. Tasks are divided among them by `share`."""
    tasks: TasksParams = TasksParams()
    policy: PolicyParams = PolicyParams()
    warm_start: WarmStartParams = WarmStartParams()
    presample: PresampleParams = PresampleParams()
    sampling: SamplingParams = SamplingParams()
    evaluation: EvaluationParams = EvaluationParams()
    self_verification: SelfVerification = SelfVerification()
    stepwise: Stepwise = Stepwise()
    verification: VerificationParams = VerificationParams()
    rewards: RewardParams = RewardParams()
    filter: FilterParams = FilterParams()
    training: TrainingParams = TrainingParams()
    fused: FusedParams = FusedParams()
    execution: ExecutionParams = ExecutionParams()

    @property
    def supervises(self) -> bool:
        """Whether policy 0 is trained on demonstrations or texts before any reward."""
        return self.policy.base is None or self.policy.fine_tune

    @model_validator(mode="after")
    def _iterations_without_gap(self) -> "Params":
        for position, iteration in enumerate(self.iterations):
            if iteration.k != position or iteration.next != position + 1:
                raise ValueError(
                    f"iterations[{position}] is {{k: {iteration.k}, next: {iteration.next}}}, expected "
                    f"{{k: {position}, next: {position + 1}}}: list the iterations from 0 without a gap"
                )
        expected = len(self.iterations)
        if self.last_policy is not None and self.last_policy != expected:
            raise ValueError(f"last_policy is {self.last_policy}, expected {expected}: the `next` of the last of the iterations")
        return self

    @model_validator(mode="after")
    def _combinations(self, info: ValidationInfo) -> "Params":
        if info.context == PARTIAL:
            return self  # sections that a stage does not see have their defaults, which say nothing about the run
        training, sampling = self.training, self.sampling
        _check_names(self)
        _check_noise(self)
        _check_scores(self)
        _check_dataset_verifiers(self)
        _check_texts(self)
        _check_exploration(self)
        check_tools(self)
        check_token_rewards(self)
        if training.advantage.type in ("group_zscore", "leave_one_out", "backward_zscored", "forward_zscored") and sampling.group_size < 2:
            raise ValueError(
                f"sampling.group_size is {sampling.group_size}, but training.advantage.type {training.advantage.type} compares "
                "the completions of one task with each other: use at least 2, or training.advantage.type reinforce_plus_plus"
            )
        if sampling.top_p < 1 and training.importance.mode != "off":
            raise ValueError(
                f"sampling.top_p is {sampling.top_p}, which truncates the sampled distribution, so importance ratios are wrong: "
                "set sampling.top_p to 1 or training.importance.mode to off"
            )
        if sampling.temperature == 0:
            raise ValueError("sampling.temperature is 0: every completion of a group would be the same; use a value above 0")
        if training.schedule != "constant" and training.total_steps is None:
            raise ValueError(
                f"training.schedule {training.schedule} needs training.total_steps, the length of the whole run in optimizer steps"
            )
        steps = len(self.iterations) * training.steps_per_iteration
        if training.total_steps is not None and training.total_steps < steps:
            raise ValueError(
                f"training.total_steps is {training.total_steps}, but {len(self.iterations)} iterations of "
                f"{training.steps_per_iteration} optimizer steps are {steps}: the learning rate would be 0 before the end"
            )
        if training.steps_per_iteration > sampling.tasks_per_iteration:
            raise ValueError(
                f"training.steps_per_iteration is {training.steps_per_iteration}, but an iteration samples only "
                f"{sampling.tasks_per_iteration} groups (sampling.tasks_per_iteration): each step needs a group"
            )
        fused = self.fused
        tasks, steps = fused.tasks_per_round or sampling.tasks_per_iteration, fused.steps_per_round or training.steps_per_iteration
        if steps > tasks:
            raise ValueError(f"a fused round has {steps} optimizer steps but only {tasks} groups: lower fused.steps_per_round")
        if fused.max_staleness > 0 and training.importance.mode == "off":
            raise ValueError(
                f"fused.max_staleness is {fused.max_staleness}, so rows come from older policies, but training.importance.mode "
                "is off: choose token_truncated or sequence_truncated, or max_staleness 0"
            )
        if isinstance(sampling.engine, ServerEngine) and not self.execution.server.urls:
            raise ValueError(
                "sampling.engine.type is server, but execution.server.urls is empty: list the servers' addresses, e.g. "
                "[http://127.0.0.1:8000/v1]"
            )
        return self


def _check_names(params: Params) -> None:
    for name in params.environments:
        if name in ("", "all"):
            raise ValueError(f"environments has the name {name!r}, which stands for all of them in tables and reports: choose another")


def _check_noise(params: "Params") -> None:
    """Raises ValueError for corrections and appeals that could not mean anything."""
    appeals, advantage, oracle = params.verification.appeals, params.training.advantage, params.verification.oracle
    if isinstance(advantage, Corrected):
        rates = {name: getattr(advantage, name) for name in ("false_positive_rate", "false_negative_rate")}
        estimated = [name for name, rate in rates.items() if rate == "estimated"]
        if estimated and not appeals.enabled:
            raise ValueError(
                f"training.advantage.{estimated[0]} is estimated, but verification.appeals.enabled is false, so that nothing estimates "
                "it: enable appeals, or give the rate as a number"
            )
        if advantage.lag and appeals.enabled and appeals.recover:
            raise ValueError(
                "training.advantage.lag is 1 and verification.appeals.recover is true: what noise remains after recovery is known for "
                "the batch itself only; set one of them otherwise"
            )
    if not appeals.enabled:
        return
    judge = appeals.judge
    if isinstance(judge, EndpointJudge) and not params.execution.judge.urls:
        raise ValueError(
            "verification.appeals.judge.type is endpoint, but execution.judge.urls is empty: list the addresses of OpenAI-compatible "
            "servers, e.g. [http://127.0.0.1:8000/v1]"
        )
    itself = isinstance(judge, SymbolicJudge) and judge.verifier == params.verification.rule
    if itself and not turns_verdicts(params.verification.noise):  # what noise turned round, the rule itself puts right
        raise ValueError(
            f"verification.appeals.judge.verifier is {params.verification.rule}, the rule itself, which would uphold no appeal: choose "
            "another judge"
        )
    if not oracle and (isinstance(judge, SimulatedJudge) or appeals.judge_rates == "measured"):
        what = "judge.type is simulated" if isinstance(judge, SimulatedJudge) else "judge_rates is measured"
        raise ValueError(f"verification.appeals.{what}, which needs the oracle's verdicts, but verification.oracle is false: set it true")


def _check_scores(params: "Params") -> None:
    """Raises ValueError where what takes rewards for 0 or 1 (noise, appeals, corrections, levels) meets a rule that gives its score."""
    rule = params.verification.rule
    scored = [f"environments.{name}" for name, section in params.environments.items() if section.type in SCORED]
    if rule != "protocol_score" and not (rule == "task" and scored):
        return
    who = "verification.rule is protocol_score, whose" if rule != "task" else f"{scored[0]} is judged by protocol_score, whose"
    taken = {
        f"verification.noise.type {params.verification.noise.type}": not isinstance(params.verification.noise, NoNoise),
        "verification.appeals.enabled": params.verification.appeals.enabled,
        f"training.advantage.type {params.training.advantage.type}": isinstance(params.training.advantage, Corrected),
        "rewards.levels": params.rewards.levels is not None,
        "self_verification.share": params.self_verification.share > 0,
        "self_verification.evaluation": params.self_verification.evaluation > 0,
        "stepwise.continuations": params.stepwise.continuations > 0,
    }
    for key, on in taken.items():
        if on:
            raise ValueError(f"{who} score is the reward, but {key} takes rewards for 0 or 1: leave one of them out")


def _check_dataset_verifiers(params: "Params") -> None:
    """Raises ValueError for a data set whose verifier is neither one of ours that can judge it nor a function of the user."""
    known = (*DATASET_VERIFIERS, *params.verification.functions)
    for name, section in params.environments.items():
        if isinstance(section, UserDataset) and section.verifier not in known:
            raise ValueError(
                f"environments.{name}.verifier is {section.verifier!r}, expected one of {', '.join(known)} (verification.functions adds to "
                "them)"
            )


def _check_texts(params: "Params") -> None:
    """Raises ValueError for pre-training without texts, for a policy that is made from scratch and never trained, and for a revision of
    one."""
    start = params.warm_start
    if params.policy.revision is not None and params.policy.base is None:
        raise ValueError("policy.revision is set, but policy.base is null: name the hub model whose revision it is")
    if not params.supervises:
        return
    if params.policy.fine_tune and params.policy.base is None:
        raise ValueError("policy.fine_tune is true, but policy.base is null: name the model that is to be fine-tuned, or set it to false")
    for key, phase in (("warm_start", start), ("warm_start.pretraining", start.pretraining)):
        if phase.lora is not None and params.policy.base is None:
            raise ValueError(f"{key}.lora is set, but policy.base is null: a policy made from scratch has nothing to adapt; set it to null")
    if start.pretraining.max_steps and not params.tasks.texts:
        raise ValueError(
            f"warm_start.pretraining.max_steps is {start.pretraining.max_steps}, but tasks.texts is 0, so that there is nothing to train "
            "on: raise tasks.texts, or set max_steps to 0"
        )
    if not start.max_steps and not start.pretraining.max_steps:
        raise ValueError(
            "warm_start.max_steps and warm_start.pretraining.max_steps are 0: "
            + ("policy.fine_tune would do nothing" if params.policy.fine_tune else "policy 0 would know nothing") + "; raise one of them"
        )


def _check_exploration(params: "Params") -> None:
    """Raises ValueError for a rehearsal without stored answers."""
    rehearsal = params.training.rehearsal
    if rehearsal is not None and not params.presample.enabled:
        raise ValueError(
            "training.rehearsal is set, but presample.enabled is false, so that there is nothing to rehearse: set presample.enabled to true"
        )
    if params.presample.enabled and params.sampling.top_p < 1:
        raise ValueError(
            f"sampling.top_p is {params.sampling.top_p}, which truncates the answers of policy 0, while its stored log-probabilities are "
            "of the whole distribution: presample needs sampling.top_p 1"
        )


def round_params(params: "Params") -> "Params":
    """The parameters of one fused round: those of an iteration, with the sizes that `fused` gives a round."""
    fused = params.fused
    sampling, training = {"tasks_per_iteration": fused.tasks_per_round}, {"steps_per_iteration": fused.steps_per_round}
    return params.model_copy(update={
        "sampling": params.sampling.model_copy(update={k: v for k, v in sampling.items() if v is not None}),
        "training": params.training.model_copy(update={k: v for k, v in training.items() if v is not None}),
    })  # fmt: skip


PARTIAL = "the parameters of one stage"
"""Validation context of a stage's part of the parameters, which were checked as a whole before."""

# What each stage may read. Written by `configure` to data/config/STAGE.json: a stage depends on that file alone, so it
# runs again exactly when a value that it can see has changed, whether by params.yaml, by a preset or by a new default.
STAGE_SECTIONS: dict[str, tuple[str, ...]] = {
    "generate": ("seed", "environments", "tasks", "policy", "self_verification", "verification"),
    "pretrain": ("seed", "policy", "warm_start", "training"),
    "warm_start": ("seed", "policy", "warm_start", "sampling", "verification", "training"),
    "presample": ("seed", "policy", "presample", "sampling", "verification", "training"),
    "rollout": ("seed", "policy", "sampling", "evaluation", "self_verification", "stepwise", "verification"),
    "verify": ("seed", "self_verification", "stepwise", "verification", "rewards"),
    "filter": ("seed", "presample", "sampling", "self_verification", "stepwise", "verification", "rewards", "filter", "training"),
    "update": ("seed", "sampling", "training"),
    "train": (
        "seed", "policy", "presample", "sampling", "evaluation", "self_verification", "stepwise", "verification", "rewards", "filter",
        "training", "fused",
    ),
    "finish": ("seed", "policy", "sampling", "evaluation", "self_verification", "stepwise", "verification"),
    "evaluate": (
        "method",
        "scale",
        "environment",
        "seed",
        "iterations",
        "environments",
        "policy",
        "presample",
        "sampling",
        "evaluation",
        "self_verification",
        "stepwise",
        "verification",
        "rewards",
        "training",
    ),
}
