"""Pure tensor functions: advantages, policy losses, divergences, entropy, importance weights.

They can be used in any training script. Modules are imported one by one (`from assay.objectives import policy`):
advantages needs NumPy only, the others torch.
"""
