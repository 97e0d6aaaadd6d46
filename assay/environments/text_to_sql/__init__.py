"""Text-to-SQL: questions about small databases, made from a seed or brought by the user; answers are queries that are executed.

`schemas` and `questions` make tasks, `user_databases` reads a user's own; `databases`, `statements`, `execution` and `compare` decide
about answers, inside a worker process.
"""
