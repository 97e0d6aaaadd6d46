"""docs/own.md, as it is pasted: its questions, its function and its parameters fit together."""

import re
import subprocess
import sys
from pathlib import Path

from assay.params import load_params
from assay.params.doubts import parameter_doubts

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/own.md").read_text(encoding="utf-8")


def test_the_page_about_own_questions_can_be_pasted(tmp_path):
    (tmp_path / "conf").mkdir()
    for kind in ("method", "scale", "environment"):
        (tmp_path / "conf" / kind).symlink_to(ROOT / "conf" / kind)
    (tmp_path / "conf/functions").mkdir()
    (questions, function) = re.findall(r"python -c \"\n(.*?)\" > (?:\S+)|cat > (?:\S+) <<'END'\n(.*?)END\n", PAGE, flags=re.DOTALL)
    (tmp_path / "data/raw").mkdir(parents=True)
    rows = subprocess.run([sys.executable, "-I", "-c", questions[0]], capture_output=True, text=True, check=True).stdout
    (tmp_path / "data/raw/questions.csv").write_text(rows)
    (tmp_path / "conf/functions/last_box.py").write_text(function[1])
    (own,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "params.yaml").write_text(own)

    params = load_params(tmp_path)

    assert list(parameter_doubts(params)) == []
    assert list(params.environments) == ["mine"] and params.verification.rule == "last_box"
    scope: dict = {}
    exec(function[1], scope)
    assert scope["last_box"]([r"so \boxed{3}, no: \boxed{4}", r"\boxed{3}", "4"], ["4", "4", "4"]) == [1.0, 0.0, 0.0]
    assert rows.count("\n") == 401 and rows.startswith("question,answer\n")
