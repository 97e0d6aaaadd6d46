"""Protocols: recipes for a small bench, asked for in eight ways and answered in the Sketch-and-Fill format.

`materials`, `grammar` and `planning` say what can be done and find how; `questions` and `writing` make tasks of it; `executor` says,
knowing none of these, whether a predicted protocol can be carried out and reaches its goal; `records` reads published ones.
"""
