"""What each metric means, in the words of the report and the cards, and the query that leads from it back to rows."""

import re

SPLIT_TITLES = {"eval": "held-out tasks", "ood": "out-of-distribution tasks", "train": "training tasks"}

METRICS: dict[str, str] = {
    "pass@k": (
        "Probability that at least one of k samples of a task is right: 1 - C(n - c, k) / C(n, k) for a task with c "
        "right among n decided samples, averaged over tasks (Chen et al. 2021). Tasks with fewer than k decided "
        "samples are left out; n says how many are in."
    ),
    "avg@k": (
        "Mean over tasks of the share of right samples, k being the number of samples of a task. "
        "Equal to pass@1 where every task has a decided sample."
    ),
    "pass@k_gain": (
        "pass@k of this policy minus that of policy 0, paired by task. Its interval is narrower than two separate ones "
        "suggest, as both saw the same tasks."
    ),
    "keep@k": (
        "Of the tasks that policy 0 solves within k tries, the share that this policy solves within k tries of its own: the sum of "
        "pass@k of policy 0 times pass@k of this policy, task by task, over the sum of pass@k of policy 0. Luck of k tries makes it "
        "smaller than 1; how much smaller, the row of policy 0 says: a second set of k tries of its own (where it has 2 k samples)."
    ),
    "explore@k": (
        "Of the tasks that policy 0 does not solve within k tries, the share that this policy solves within k tries: likewise, "
        "weighted by 1 - pass@k of policy 0."
    ),
    "keep_rate": (
        "Of the tasks that policy 0 solves at least once in its samples, the share that this policy solves at least "
        "once."
    ),
    "explore_rate": (
        "Of the tasks that policy 0 never solves in its samples, the share that this policy solves at least once."
    ),
    "accuracy_rule": (
        "Share of right samples by the rule, the verifier that gives the reward, over the samples that every verifier "
        "decided which decides any here: accuracies in one row are about the same samples. n counts their tasks, which "
        "can be fewer than those of pass@k."
    ),
    "accuracy_reference": "The same samples by the reference, a stronger rule that gives no reward.",
    "accuracy_oracle": "The same samples by the environment's oracle, which decides exactly, where there is one.",
    "abstain_share": (
        "Share of samples on which the headline verifier did not decide (timeout, crash, unreadable gold). "
        "They are neither right nor wrong and enter no accuracy."
    ),
    "abstain_share_rule": (
        "The same for the rule. A policy can learn to crash its verifier: above a limit the gate stops the run."
    ),
    "truncated_share": "Share of samples that were cut at the longest length, without an end token.",
    "verification_accuracy": (
        "Share of critiques of evaluation samples that call right what is right, and nothing else (binary). The truth is the oracle's "
        "verdict where there is one, else the rule's. Read it beside verification_balanced_accuracy and verification_majority_accuracy."
    ),
    "verification_exact_accuracy": "Share of critiques that give exactly the level that the sample earned (right, wrong, no answer).",
    "verification_balanced_accuracy": (
        "Mean of recall and specificity of the critiques: 0.5 for every judge that looks at nothing, however many samples are right."
    ),
    "verification_recall": "Share of the right samples' critiques that call them right; one without a score does not.",
    "verification_specificity": "Share of the other samples' critiques that do not call them right.",
    "verification_precision": "Share of the critiques that call a sample right whose sample is.",
    "verification_negative_precision": "Share of the critiques that do not call a sample right whose sample is not.",
    "verification_matthews": "Matthews' correlation of what critiques say and what is true; 0 for a constant judge.",
    "verification_majority_accuracy": "verification_accuracy of always naming the more frequent class.",
    "verification_majority_exact_accuracy": "verification_exact_accuracy of always naming the most frequent level.",
    "verification_unscored_share": "Share of critiques without a score of the scale.",
    "verification_true_positive_rate": (
        "The policy's rate as a judge of appeals: share of the right samples' critiques that call them right, of those with a score. "
        "Without one a judge abstains."
    ),
    "verification_false_positive_rate": "The same of the other samples: share of their critiques with a score that call them right.",
    "verification_unjudged_share": (
        "Share of samples without a critique: their prompts would exceed self_verification.max_prompt_tokens. In votes they weigh as "
        "samples that no critique calls right."
    ),
    "verification_frequency": (
        "Share of samples that speak of checking (verify, verifying, recheck, validate, re-evaluate), where the policy also judges its "
        "samples (RISE). Words, not what a check is worth."
    ),
    "self_verified_accuracy": "Share of right samples among these.",
    "reflection_rate": "Occurrences of wait, however, alternatively, retry and recheck in a sample, on average over samples.",
    "overthinking_rate": (
        "Tasks of chain arithmetic: share of the re-checks that change nothing or make a right result wrong, by the oracle that reads "
        "traces."
    ),
    "rechecks": "Re-checks of an answer, on average over answers.",
    "rechecks_helpful": "Of them, those that make a wrong or missing result right.",
    "rechecks_harmful": "Of them, those that make a right result wrong.",
    "think_block_share": "Share of answers to these tasks whose thinking is opened and closed.",
    "vote_majority@k": (
        "Share of tasks whose most frequent answer among k samples is right (maj@k). Answers that the rule takes for the same number are "
        "one."
    ),
    "vote_weighted@k": (
        "The same with votes weighted by what critiques say: count(a) (2 + number of a's samples called right) / (count(a) + 4) "
        "(RISE, eq. 5, with the mean score of the answer)."
    ),
    "vote_weighted_constant@k": "The same with the denominator k + 4 for every answer, the other reading of eq. 5.",
    "length_mean": "Mean over tasks of the sampled tokens of a completion, end token included.",
    "entropy": (
        "Nats per token: minus the mean log-probability of the sampled tokens, at the sampling temperature. Estimates "
        "the mean entropy of the next-token distribution along the policy's own samples."
    ),
    "score": (
        "SCORE of protocols by the run's options (Thoth, arXiv 2510.15600): gates x scale x (order + content), 2.5 for the gold. Samples "
        "of other environments have none of this and the following metrics."
    ),
    "score_format": "Share of samples that keep the format: I_format, the first gate.",
    "score_consistency": "Share of samples whose orc says what their key does: I_cons, the second gate.",
    "score_scale": "f(d) / g(L): how near the number of steps is to the gold's, over the penalty for wordy steps.",
    "score_order": "1 where the actions stand in the gold's order (order lcs: 2 LCS / (n + m)).",
    "score_content": "Objects and parameters of aligned steps, at most 1.5.",
    "score_lexical": "Mean of BLEU-AVG, ROUGE-L and token-F1 of the orc: the reward of the paper's vanilla ablation.",
    "executable_share": (
        "Share of samples whose every step can be carried out on the task's bench, whether or not that reaches the goal (both together: "
        "accuracy_oracle)."
    ),
    "protocol_step_match": "Step-M: share of samples with as many steps as the gold.",
    "protocol_order_strict": "Order-S: share of samples with exactly the gold's actions.",
    "protocol_order_lcs": "Order-LCS: 2 LCS / (n + m) of the actions.",
    "protocol_order_tau": "Order-Tau: Kendall's tau of the actions that both have; 0 with fewer than two.",
    "protocol_order_tau_parity": "The published evaluator's tau, which is 1 from two aligned pairs on and else 0.",
    "protocol_content": "Semantic-A before scaling, at most 1.5.",
    "protocol_semantic": "Semantic-A: objects and parameters of aligned steps, over 1.5.",
    "protocol_semantic_parity": "The same by the published evaluator, whose alignment ends at the first action out of place.",
    "protocol_bleu": "BLEU-AVG of the orc: mean precision of 1- to 4-grams.",
    "protocol_rouge": "ROUGE-L of the orc.",
    "protocol_tokens": "F1 of the orc's words, in place of a keyword F1 that needs a downloaded model.",
    "solve_f1": (
        "Tasks with tools: 2 S / (C + U) of an episode that finds S of U sub-answers with C calls (Solve-F1 of FTRL, arXiv 2508.08791); "
        "mean over episodes and tasks. Also for each scenario, as solve_f1:multi_hop, as the next three."
    ),
    "solve_p": "Solve-P: S / C, sub-answers found for each call; 1 where no call was made, as in the paper's code.",
    "solve_p_strict": "The same, but 0 where no call was made.",
    "solve_r": "Solve-R: S / U, share of the sub-answers that were found.",
    "solve_answered:SCENARIO": "Share of a scenario's episodes that end with the right answer (over all scenarios: pass@1).",
    "solve_exact": (
        "Share of episodes whose last text is the right answer and nothing beside: a lower bound, where pass@1, which takes a text that "
        "holds the answer (FTRL's rule), also accepts a list of candidates. Also for each scenario."
    ),
    "solve_calls": "Calls of an episode.",
    "solve_turns": "Turns of an episode.",
    "protocol_average": "Mean of Step-M, Order-S, Order-LCS, Order-Tau, Semantic-A, BLEU-AVG, ROUGE-L and token-F1.",
}

HEADLINE = (
    "The headline verdict is the oracle's where the environment has one, else the rule's. Abstained samples leave "
    "numerator and denominator."
)

INTERVALS = (
    "Tasks are the clusters: samples of one task are correlated, tasks are independent. Shares have a Wilson score "
    "interval with the effective sample size of the clustered design and Student's quantile (Korn and Graubard 1998); "
    "differences combine two of them with the correlation over tasks (Newcombe 1998, method 10); lengths and entropy "
    "have t intervals. They are about tasks like these, sampled again from this policy; they do not cover another "
    "training seed."
)

NOISE = (
    "False-negative rate: of the samples that are right, the share that the rule rejects. It is estimated against a "
    "better verifier, which is named; the true rate is known where the environment has an oracle."
)


APPEALS = (
    "With appeals, a random share q of the training samples that the rule rejects is put before a judge, and each that it "
    "accepts stands for 1/q right answers (Horvitz and Thompson 1952); the judge's own errors, where their rates are given "
    "or measured, are taken out. The false-positive rate comes from audits of accepted samples in the same way; without "
    "them it is a parameter, shown as assumed. The intervals are for the realised rates of each batch."
)


def noise_meaning(appeals: bool) -> str:
    """What the estimates of the rule's errors are. appeals: whether a judge was asked."""
    return f"{NOISE} {APPEALS}" if appeals else NOISE


def meaning(metric: str) -> str:
    """Definition of a metric of the `evaluations` table. Raises KeyError for an unknown one."""
    return METRICS[re.sub(r"@\d+", "@k", metric)]


def queries(environment: str, role: str, split: str, policy: int, appeals: bool = False) -> dict[str, str]:
    """Queries for `assay sql`, by the question that they answer, about one environment of this run. appeals: whether a
    judge was asked."""
    name = environment.replace("'", "''")
    rows = f"""FROM trajectories AS t JOIN tasks USING (task_id) JOIN verdicts AS v USING (trajectory_id)
WHERE t.kind = 'evaluation' AND t.iteration = {policy} AND split = '{split}'
  AND environment = '{name}' AND role = '{role}'"""
    appealed = {
        "Rejected by the rule, accepted by the judge: what the estimate rests on, by form of the answer": """\
SELECT environment, v.answer_format, count(*) AS appealed, count(*) FILTER (v.upheld) AS upheld,
       min_by(gold, v.trajectory_id) FILTER (v.upheld) AS gold, min_by(v.answer, v.trajectory_id) FILTER (v.upheld) AS answer
FROM verdicts AS v JOIN trajectories AS t USING (trajectory_id) JOIN tasks USING (task_id)
WHERE v.role = 'rule' AND v.appealed
GROUP BY ALL ORDER BY upheld DESC, environment, v.answer_format"""
    }
    return {
        f"pass@1 of policy {policy} on {environment}, from single samples": f"""\
SELECT avg(share) AS pass_at_1, count(*) AS tasks FROM (
SELECT task_id, avg(CAST(verdict = 'correct' AS DOUBLE)) AS share
{rows} AND verdict <> 'abstain'
GROUP BY task_id)""",
        "The samples behind it, shortest first": f"""\
SELECT t.trajectory_id, gold, answer, verdict, reason, t.text
{rows}
ORDER BY len(t.completion_ids), t.trajectory_id LIMIT 20""",
        "Right by the oracle, rejected by the rule: the verifier's false negatives, by form of the answer": """\
SELECT rule.answer_format, count(*) AS samples, min(gold) AS gold, min_by(rule.answer, gold) AS answer
FROM verdicts AS rule JOIN verdicts AS oracle USING (trajectory_id)
JOIN trajectories AS t USING (trajectory_id) JOIN tasks USING (task_id)
WHERE rule.role = 'rule' AND rule.verdict = 'wrong'
  AND oracle.role = 'oracle' AND oracle.verdict = 'correct' AND t.kind IN ('solution', 'evaluation', 'episode')
GROUP BY ALL ORDER BY samples DESC, answer_format""",
        **(appealed if appeals else {}),
        "One sample down to its tokens (put its id in)": """\
SELECT unnest(completion_ids) AS token, unnest(sampled_logprobs) AS logprob
FROM trajectories WHERE trajectory_id = 'ID'""",
    }
