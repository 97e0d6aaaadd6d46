"""The tables of the record: every column with its type and meaning. docs/schema.md is made from this file."""

from dataclasses import dataclass

import pyarrow as pa

SCHEMA_VERSION = 1
"""Written into every shard. Raised when a column changes meaning or type; added columns read as null in older shards."""

TOKENS = pa.list_(pa.int32())
FLOATS = pa.list_(pa.float32())
MASK = pa.list_(pa.bool_())
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
SAMPLING = pa.struct([
    ("temperature", pa.float32()), ("top_p", pa.float32()), ("max_tokens", pa.int32()), ("seed", pa.int64()),
    ("engine", pa.string()), ("engine_version", pa.string()),
])  # fmt: skip


@dataclass(frozen=True)
class Column:
    """One column of a table: name, type, and what it says in a few words."""

    name: str
    type: pa.DataType
    meaning: str
    nullable: bool = False


@dataclass(frozen=True)
class Table:
    """A table of the record: its columns, in order."""

    name: str
    row: str
    """What one row is."""
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in self.columns])


_TEXT, _INT, _FLOAT, _DOUBLE, _BOOL = pa.string(), pa.int32(), pa.float32(), pa.float64(), pa.bool_()
_ITERATION = Column("iteration", _INT, "k of the pipeline's unrolled iteration; the policy that sampled is policy k")
_ROUND = Column("round", _INT, "round inside a fused iteration; 0 in the staged pipeline")
_TRAJECTORY = Column("trajectory_id", _TEXT, "of trajectories")

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table("tasks", "task", (
            Column("task_id", _TEXT, "content hash of environment, prompt and gold"),
            Column("environment", _TEXT, "name in params.yaml, environments"),
            Column("split", _TEXT, "train, eval or ood"),
            Column("prompt", MESSAGES, "messages, before the chat template"),
            Column("gold", _TEXT, "the known answer"),
            Column("verifier", _TEXT, "the verifier that this task names"),
            Column("meta", _TEXT, "JSON: what verifier and oracle need beside the gold"),
            Column("difficulty", _FLOAT, "of the generator, higher is harder", nullable=True),
        )),
        Table("demonstrations", "worked answer for the warm start", (
            Column("task_id", _TEXT, "content hash, as in tasks; never a task of eval or ood"),
            Column("environment", _TEXT, "as in tasks"),
            Column("prompt", MESSAGES, "as in tasks"),
            Column("completion", _TEXT, "a right answer, in one of its forms; of several turns, the last one"),
            Column("turns", MESSAGES, "all that follows the prompt, where it is several turns: the policy's and the tools'", nullable=True),
        )),
        Table("texts", "plain text for pre-training", (
            Column("environment", _TEXT, "as in tasks"),
            Column("text", _TEXT, "about a task that is in neither eval nor ood"),
        )),
        Table("trajectories", "sampled sequence", (
            Column("trajectory_id", _TEXT, "hash of policy, kind, task, sample index, seed and token ids"),
            _ITERATION, _ROUND,
            Column("policy", _TEXT, "index of the policy that sampled"),
            Column("task_id", _TEXT, "of tasks"),
            Column("group_id", _TEXT, "completions that are compared with each other"),
            Column("sample_index", _INT, "position within the group"),
            Column("kind", _TEXT, "solution, evaluation, episode, continuation, critique, evaluation_critique or presample"),
            Column("parent_id", _TEXT, "trajectory that this one continues or judges", nullable=True),
            Column("prompt_ids", TOKENS, "token ids given to the engine"),
            Column("completion_ids", TOKENS, "token ids sampled, end token included"),
            Column("loss_mask", MASK, "per completion token: sampled by the policy (true) or inserted, as tool output is (false)"),
            Column("sampled_logprobs", FLOATS, "per token, nats, of the distribution sampled from (after temperature and top_p)"),
            Column("finish_reason", _TEXT, "stop (an end token), length (cut at max_tokens) or, in imported rollouts, unknown"),
            Column("text", _TEXT, "completion without special tokens; derived"),
            Column("sampling", SAMPLING, "how it was sampled"),
        )),
        Table("turns", "turn of the policy in a task with tools", (
            _TRAJECTORY, _ITERATION, _ROUND,
            Column("turn_index", _INT, "from 0 in an episode; of a turn that was sampled alone, how many came before its state"),
            Column("state_id", _TEXT, "hash of the task and of all tokens before the turn"),
            Column("start", _INT, "position of its first token in completion_ids"),
            Column("tokens", _INT, "that the policy sampled"),
            Column("text", _TEXT, "what the policy wrote"),
            Column("content", _TEXT, "of it, what stands before its calls; all where no call could be read"),
            Column("sub_answers", _INT, "of the task: those that its tools give"),
            Column("unsolved", _TEXT, "JSON: sub-answers that were not found before the turn, by tool"),
            Column("unsolved_before", _INT, "their number"),
            Column("unsolved_after", _INT, "the same after the turn"),
            Column("solve_rate", _DOUBLE, "share of sub-answers that were found before the turn"),
            Column("calls", _INT, "calls that could be read"),
            Column("solved", _INT, "sub-answers that they found"),
            Column("dropped", _INT, "pieces with a tag of a call that could not be read as one"),
            Column("echo_guard", _BOOL, "sub-answers that stood in a call's own arguments did not count"),
            Column("answered", _BOOL, "no call, and the text holds the final answer"),
            Column("stop", _TEXT, "why the episode ended here: answered (no call), max_turns, overlong; null: it did not", nullable=True),
        )),
        Table("tool_calls", "call of a tool, or piece that was to be one", (
            _TRAJECTORY, _ITERATION, _ROUND,
            Column("turn_index", _INT, "of turns"),
            Column("call_index", _INT, "among the calls of the turn; those that could not be read come last"),
            Column("name", _TEXT, "of the tool, as the policy wrote it; null where it could not be read, as the next", nullable=True),
            Column("arguments", _TEXT, "JSON", nullable=True),
            Column("raw", _TEXT, "the piece as written"),
            Column("status", _TEXT, "ok, unknown_tool, bad_args, exception, timeout, memory, crash, or dropped: it could not be read"),
            Column("feedback", _TEXT, "what the policy was told; why the piece was dropped"),
            Column("solved", _TEXT, "the sub-answer that it found", nullable=True),
            Column("echo", _BOOL, "a sub-answer in the feedback stood in the call's own arguments: it may have been guessed"),
            Column("distractor", _BOOL, "a tool that has no sub-answer of this task"),
        )),
        Table("states", "intermediate state of a solution that continuations are sampled from", (
            _TRAJECTORY, _ITERATION, _ROUND,
            Column("state", _INT, "0 to K; state j is before step j, state K the whole thinking. Continuations: group by sample_index"),
            Column("tokens", _INT, "leading completion tokens of the solution that the continuations' prompt holds"),
            Column("closed", _BOOL, "the close tag was added to them"),
            Column("continuations", _INT, "sampled from it: sample_index from state times this number on"),
            Column("complete", _BOOL, "the solution has a whole think block"),
            Column("marker", _TEXT, "phrase that the step was split at; this and the next four null in state K", nullable=True),
            Column("char_start", _INT, "of the step that begins here, in the solution's text", nullable=True),
            Column("char_end", _INT, "behind its last character", nullable=True),
            Column("first_token", _INT, "of the step, in completion_ids", nullable=True),
            Column("last_token", _INT, "of the step", nullable=True),
        )),
        Table("steps", "reasoning step of a solution", (
            _TRAJECTORY, _ITERATION, _ROUND,
            Column("step", _INT, "0 to K - 1"),
            Column("marker", _TEXT, "phrase that it was split at"),
            Column("char_start", _INT, "in the solution's text"),
            Column("char_end", _INT, "behind its last character"),
            Column("first_token", _INT, "in completion_ids"),
            Column("last_token", _INT, ""),
            Column("decided_before", _INT, "continuations of the state before it on which the rule decided"),
            Column("decided_after", _INT, "the same of the state after it"),
            Column("accuracy_before", _DOUBLE, "share of right ones among them; where none was decided, of the state before"),
            Column("accuracy_after", _DOUBLE, "the same of the state after it"),
            Column("difference", _DOUBLE, "after minus before"),
            Column("distance", _INT, "steps ahead to the change that the reward is taken from, 0: its own; null: none", nullable=True),
            Column("reward", _DOUBLE, "what the step earns"),
            Column("effect", _TEXT, "helpful, ineffective or harmful, by its own difference"),
            Column("oracle_effect", _TEXT, "the same by the oracle that reads the trace (chain arithmetic); else null", nullable=True),
        )),
        Table("verdicts", "(trajectory, verifier at its version)", (
            _TRAJECTORY, _ITERATION, _ROUND,
            Column("verifier", _TEXT, "name"),
            Column("verifier_version", _TEXT, "changes whenever verdicts may change"),
            Column("role", _TEXT, "rule (gives the reward), reference, oracle, judge, imported (a file's own), replayed (again)"),
            Column("verdict", _TEXT, "correct, wrong or abstain"),
            Column("reason", _TEXT, "why: equal, different, unparseable, too_long, timeout, memory, gold_unparseable ..."),
            Column("score", _FLOAT, "the verifier's own score; null where it abstained", nullable=True),
            Column("answer", _TEXT, "the extracted answer", nullable=True),
            Column("answer_format", _TEXT, "integer, decimal, fraction, latex, text or empty", nullable=True),
            Column("components", _TEXT, "JSON: parts of a composed score", nullable=True),
            Column("appealed", _BOOL, "a rule negative that was put before a judge"),
            Column("audited", _BOOL, "a rule positive that was put before a judge", nullable=True),
            Column("upheld", _BOOL, "the judge accepts the answer; null where it was not asked or abstained", nullable=True),
            Column("flipped", _BOOL, "changed by injected noise: the rule's verdict is stored as it was, the reward is the other"),
            Column("noise_draw", _DOUBLE, "uniform draw that was compared with the rate of injected noise", nullable=True),
            Column("appeal_draw", _DOUBLE, "uniform draw that was compared with the probability of appeal or audit", nullable=True),
            Column("observed_reward", _FLOAT, "reward that training sees (rule) or a file gave (imported); null: abstained", nullable=True),
        )),
        Table("noise_estimates", "(iteration, round, environment, verifier)", (
            _ITERATION, _ROUND,
            Column("environment", _TEXT, "as in tasks"),
            Column("verifier", _TEXT, "the rule that is measured"),
            Column("against", _TEXT, "what it is measured against: reference, oracle or judge"),
            Column("n", _INT, "rows on which both decided"),
            Column("rule_positives", _INT, "rows that the rule accepts"),
            Column("rule_negatives", _INT, "rows that the rule rejects"),
            Column("examined_negatives", _INT, "rejected rows that were examined"),
            Column("false_negatives", _DOUBLE, "estimated number of right answers among the rejected", nullable=True),
            Column("false_negative_rate", _DOUBLE, "P(rule rejects | right)", nullable=True),
            Column("false_negative_low", _DOUBLE, "lower end of its interval", nullable=True),
            Column("false_negative_high", _DOUBLE, "upper end", nullable=True),
            Column("false_positive_rate", _DOUBLE, "P(rule accepts | wrong)", nullable=True),
            Column("false_positive_low", _DOUBLE, "lower end of its interval", nullable=True),
            Column("false_positive_high", _DOUBLE, "upper end", nullable=True),
            Column("smoothed_rate", _DOUBLE, "false-negative rate smoothed over iterations and rounds, this one included", nullable=True),
            Column("carried_rate", _DOUBLE, "the same before this one: what the average brought along", nullable=True),
            Column("smoothed_false_positive_rate", _DOUBLE, "likewise", nullable=True),
            Column("carried_false_positive_rate", _DOUBLE, "likewise", nullable=True),
            Column("false_positive_source", _TEXT, "oracle, reference, audit or assumed (a parameter)", nullable=True),
            Column("appeal_probability", _DOUBLE, "q; null without appeals, as for the columns that follow", nullable=True),
            Column("upheld_negatives", _INT, "examined rejected rows that the judge accepts", nullable=True),
            Column("examined_positives", _INT, "accepted rows that were audited", nullable=True),
            Column("refused_positives", _INT, "audited rows that the judge does not accept", nullable=True),
            Column("judge_abstentions", _INT, "rows put before the judge that it did not decide", nullable=True),
            Column("judge", _TEXT, "its name", nullable=True),
            Column("judge_true_positive_rate", _DOUBLE, "P(judge accepts | right), as used", nullable=True),
            Column("judge_false_positive_rate", _DOUBLE, "P(judge accepts | wrong), as used", nullable=True),
            Column("judge_calls", _INT, "questions put to it, equal ones once", nullable=True),
            Column("judge_tokens", pa.int64(), "that it read and wrote", nullable=True),
            Column("residual_false_negative_rate", _DOUBLE, "smoothed, of the reward after recovered appeals", nullable=True),
            Column("residual_false_positive_rate", _DOUBLE, "likewise", nullable=True),
            Column("smoothed_deviation", _DOUBLE, "moving average of the standard deviation of observed rewards", nullable=True),
            Column("carried_deviation", _DOUBLE, "the same before this one", nullable=True),
            Column("enough", _BOOL, "whether the evidence sufficed to change the average false-negative rate", nullable=True),
            Column("enough_audited", _BOOL, "the same of the false-positive rate; null without audits", nullable=True),
            Column("warning", _TEXT, "drift, determinant below its limit, judge that fails; null: none", nullable=True),
            Column("true_false_negative_rate", _DOUBLE, "where an oracle knows it", nullable=True),
            Column("true_false_positive_rate", _DOUBLE, "where an oracle knows it", nullable=True),
        )),
        Table("batches", "row offered to training", (
            _TRAJECTORY, _ITERATION, _ROUND,
            Column("group_id", _TEXT, "of trajectories"),
            Column("kept", _BOOL, "trained on"),
            Column("drop_reason", _TEXT, "abstained, truncated, zero_variance, duplicate or mismatch; null where kept", nullable=True),
            Column("reward", _FLOAT, "null where the rule abstained", nullable=True),
            Column("advantage", _FLOAT, "of the row; null where the rule abstained", nullable=True),
            Column("control_advantage", _FLOAT, "of the matched control without correction, where a noise correction is on", nullable=True),
            Column("used_false_positive_rate", _FLOAT, "that the correction took; null: none is on, or not known yet", nullable=True),
            Column("used_false_negative_rate", _FLOAT, "likewise: then the row has its control's advantage", nullable=True),
            Column("used_determinant", _FLOAT, "1 - both, raised to minimum_determinant where it is below", nullable=True),
            Column("step", _INT, "optimizer step of the iteration that uses the row; null where dropped", nullable=True),
            Column("prompt_ids", TOKENS, "as sampled; empty where dropped"),
            Column("completion_ids", TOKENS, "as sampled; empty where dropped"),
            Column("loss_mask", MASK, "as sampled"),
            Column("sampled_logprobs", FLOATS, "as sampled"),
            Column("reference_logprobs", FLOATS, "training engine's, of policy 0, where a penalty needs them", nullable=True),
            Column("token_rewards", FLOATS, "per token, where a row earns more than its outcome: steps, penalties", nullable=True),
            Column("token_values", FLOATS, "per token, the critic's value before it, where there is a critic", nullable=True),
            Column("token_returns", FLOATS, "per token, what the critic learns", nullable=True),
            Column("token_advantages", FLOATS, "per token, where the advantage is not the same for all tokens of the row", nullable=True),
            Column("rehearsal", _BOOL, "a stored sample of policy 0 that is rehearsed, not reinforced: without reward and advantage"),
            Column("denominator_rows", _INT, "rows that the loss of the row's step is divided by; null where dropped", nullable=True),
            Column("denominator_tokens", pa.int64(), "the same in tokens that bear loss", nullable=True),
        )),
        Table("token_statistics", "trajectory that was trained on by its advantage", (
            _TRAJECTORY, _ITERATION, _ROUND,
            Column("logprobs", FLOATS, "training engine's, before the first update, nats"),
            Column("entropies", FLOATS, "of the next-token distribution at sampling temperature, nats"),
            Column("max_logprobs", FLOATS, "of the likeliest token, nats; this and the next three with Lp-Reg only", nullable=True),
            Column("kept", MASK, "the sampled token is plausible: in the support of Lp-Reg's proxy", nullable=True),
            Column("log_z", FLOATS, "log of the policy's mass on that support", nullable=True),
            Column("protected", MASK, "bears Lp-Reg's penalty, by the policy before the update; null: scope micro_batch", nullable=True),
            Column("selected", MASK, "bears policy loss under the 80/20 rule; null where the scope is the micro-batch", nullable=True),
        )),
        Table("splits", "task that policy 0 was tried on (stage presample)", (
            Column("task_id", _TEXT, "of tasks"),
            Column("environment", _TEXT, "as in tasks"),
            Column("samples", _INT, "answers that were counted: those that the rule decided"),
            Column("solved", _INT, "right ones among them, by the rule"),
            Column("recheck", _BOOL, "the further answer is right; null where it was no candidate or the rule abstained", nullable=True),
            Column("subset", _TEXT, "near_perfect (rehearsed), explore (trained on) or dropped"),
        )),
        Table("rehearsal", "stored right answer of policy 0", (
            _TRAJECTORY,
            Column("task_id", _TEXT, "of tasks"),
            Column("group_id", _TEXT, "of trajectories"),
            Column("prompt_ids", TOKENS, "as sampled"),
            Column("completion_ids", TOKENS, "as sampled"),
            Column("loss_mask", MASK, "as sampled"),
            Column("sampled_logprobs", FLOATS, "as sampled"),
            Column("reference_logprobs", FLOATS, "training engine's, of policy 0 at the temperature, nats"),
            Column("temperature", _FLOAT, "of both"),
            Column("base_policy", _TEXT, "hash of policy 0's weights and tokenizer: of no other policy are these log-probabilities"),
        )),
        Table("updates", "optimizer step", (
            _ITERATION, _ROUND,
            Column("step", _INT, "within the iteration"),
            Column("global_step", _INT, "over the whole run"),
            Column("rows", _INT, "rows trained on"),
            Column("tokens", pa.int64(), "completion tokens that bear loss"),
            Column("learning_rate", _DOUBLE, ""),
            Column("loss", _DOUBLE, "what was minimised"),
            Column("policy_loss", _DOUBLE, "clipped surrogate"),
            Column("divergence", _DOUBLE, "mean per token of the estimator towards policy 0, nats", nullable=True),
            Column("entropy", _DOUBLE, "mean per token, nats"),
            Column("clip_low_share", _DOUBLE, "share of tokens below the lower clip with negative advantage"),
            Column("clip_high_share", _DOUBLE, "share of tokens above the upper clip with positive advantage"),
            Column("gradient_norm", _DOUBLE, "before clipping"),
            Column("mismatch_mean", _DOUBLE, "mean |sampler - trainer| log-probability before the first update, nats"),
            Column("mismatch_max", _DOUBLE, "largest of the step"),
            Column("advantage_mean", _DOUBLE, "over rows"),
            Column("advantage_std", _DOUBLE, "over rows"),
            Column("policy_sum", _DOUBLE, "policy_loss before it was divided, aggregated as it is", nullable=True),
            Column("policy_count", _DOUBLE, "what it was divided by", nullable=True),
            Column("policy_token_sum", _DOUBLE, "sum of the policy loss over the tokens that bear it, unscaled", nullable=True),
            Column("divergence_sum", _DOUBLE, "sum over tokens of the estimator towards policy 0, nats", nullable=True),
            Column("low_probability_threshold", _DOUBLE, "delta of Lp-Reg: tokens of less are rare", nullable=True),
            Column("candidate_count", _DOUBLE, "tokens that are rare and have an advantage of the protected sign", nullable=True),
            Column("protected_count", _DOUBLE, "of them plausible and (one_sided) below the target: these bear the penalty", nullable=True),
            Column("protected_sum", _DOUBLE, "sum of their penalties, before the coefficient, nats", nullable=True),
            Column("entropy_threshold", _DOUBLE, "of the 80/20 rule, nats; null where the scope is the micro-batch", nullable=True),
            Column("selected_tokens", _DOUBLE, "tokens that bear policy loss under the 80/20 rule", nullable=True),
            Column("selected_share", _DOUBLE, "the same over all tokens", nullable=True),
            Column("selected_entropy", _DOUBLE, "mean entropy of selected tokens, nats", nullable=True),
            Column("rehearsal_tokens", _DOUBLE, "tokens of rehearsed rows", nullable=True),
            Column("rehearsal_sum", _DOUBLE, "sum over them of the generator, before the coefficient", nullable=True),
            Column("rehearsal_row_sum", _DOUBLE, "sum over rehearsed rows of their token means", nullable=True),
            Column("rehearsal_rows", _DOUBLE, "rehearsed rows", nullable=True),
            Column("rehearsal_beyond", _DOUBLE, "tokens whose log ratio to policy 0 is beyond 20, without gradient", nullable=True),
            Column("value_loss", _DOUBLE, "of the critic, mean per token over its steps; null without one, as in the next", nullable=True),
            Column("value_clip_share", _DOUBLE, "share of tokens whose value left its range", nullable=True),
            Column("value_mean", _DOUBLE, "mean value before the update, over tokens", nullable=True),
            Column("return_mean", _DOUBLE, "mean return, over tokens", nullable=True),
            Column("explained_variance", _DOUBLE, "of the returns by the values before the update", nullable=True),
            Column("critic_gradient_norm", _DOUBLE, "before clipping, mean over its steps", nullable=True),
            Column("audit_mean_difference", _DOUBLE, "mean over tokens of |advantage - control|; null without correction", nullable=True),
            Column("audit_max_difference", _DOUBLE, "largest of the step", nullable=True),
            Column("audit_cosine", _DOUBLE, "of advantages and matched control, over tokens", nullable=True),
        )),
        Table("evaluations", "(iteration, environment, split, metric)", (
            _ITERATION,
            Column("environment", _TEXT, "as in tasks, or all"),
            Column("split", _TEXT, "train, eval or ood"),
            Column("metric", _TEXT, "see docs/schema.md, metrics"),
            Column("value", _DOUBLE, "", nullable=True),
            Column("low", _DOUBLE, "lower end of the interval", nullable=True),
            Column("high", _DOUBLE, "upper end", nullable=True),
            Column("n", _INT, "tasks that the value rests on"),
        )),
    )
}  # fmt: skip


def schema(table: str) -> pa.Schema:
    """Arrow schema of a table. Raises KeyError for an unknown name."""
    return TABLES[table].schema
