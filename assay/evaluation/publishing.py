"""A policy as others get it: its folder, with the model card as README.md, by which hubs show it."""

import shutil
from pathlib import Path

from assay.trajectories.exporters import ExportError, whole_folder


def export_policy(policy: int, out: Path, root: Path = Path(), *, fused: bool = False) -> None:
    """Copy models/POLICY/policy of the workspace into the folder `out`, with the card that `evaluate` wrote; whole or not at all.

    Raises ExportError where the policy or its card is missing, and where `out` exists already or cannot be written.
    """
    pipeline, below = ("dvc repro fused/dvc.yaml", "fused") if fused else ("dvc repro", "")
    source = root / "models" / below / str(policy) / "policy"
    card = root / "data" / below / "evaluate" / "cards" / f"policy-{policy}.md"
    if not (source / "config.json").is_file():
        raise ExportError(f"{source}: no policy there; run `{pipeline}`, or `dvc pull {source.parent.relative_to(root)}`")
    if not card.is_file():
        raise ExportError(f"{card}: policy {policy} has no card, as it has not been evaluated; run `{pipeline}`")
    with whole_folder(out) as draft:
        # Copies, not links, and writable: files of DVC's cache may be neither.
        shutil.copytree(source, draft, copy_function=shutil.copyfile)
        shutil.copyfile(card, draft / "README.md")
