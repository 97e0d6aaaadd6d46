"""Tool environments built automatically (FTRL, arXiv 2508.08791): construction in five stages, gate, execution, episodes, interchange."""
