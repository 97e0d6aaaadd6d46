"""Rewards as pure functions: outcome, tool use (FTRL), stepwise (VSRM), protocols (SCORE), critiques (RISE). Imported one by one."""
