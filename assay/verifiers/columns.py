"""What is read of trajectories to verify them. Tokens, their log-probabilities and masks are most of a rollout, and no verifier looks at
them."""

VERDICT_COLUMNS = ("trajectory_id", "iteration", "round", "task_id", "kind", "text")
"""For verdicts and the estimate of the rule's noise."""
VERIFIED_COLUMNS = (*VERDICT_COLUMNS, "policy", "sample_index", "parent_id")
"""For all that the stage `verify` makes: also draws of noise and appeals, verdicts on critiques, rewards of steps."""
