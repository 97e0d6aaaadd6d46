"""Chain arithmetic: short sums modulo a number, with a policy 0 that overthinks.

`chains` makes questions, `traces` the demonstrations with their re-checks; `effects` says, knowing neither, what each re-check of any
trace does to the result: the truth that step accuracies and overthinking rates are compared with.
"""
