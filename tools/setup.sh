#!/bin/sh
# Makes .venv from requirements.lock, unless it is there and whole. Works with uv or with a plain Python 3.10 or 3.11.
set -eu
cd "$(dirname "$0")/.."
mark=.venv/.complete
lock=$(cat requirements.lock setup.cfg pyproject.toml | cksum)
if [ -f "$mark" ] && [ "$(cat "$mark")" = "$lock" ] && .venv/bin/python -c '' 2>/dev/null; then exit 0; fi

suits() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 11))' >/dev/null 2>&1; }
python=
for candidate in ${PYTHON:-} python3.11 python3.10 python3 python; do
  if suits "$candidate"; then python=$(command -v "$candidate"); break; fi
done

echo "[setup] making .venv from requirements.lock (a minute or two where nothing is cached)"
rm -rf .venv
if command -v uv >/dev/null 2>&1; then
  uv venv --quiet --python "${python:-3.11}" .venv
  uv pip install --python .venv/bin/python --compile-bytecode --require-hashes -r requirements.lock
  uv pip install --python .venv/bin/python --quiet --no-deps --no-build-isolation -e .
elif [ -n "$python" ]; then
  "$python" -m venv .venv || { echo "[setup] $python cannot make a venv; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
  # The pip that comes with Python 3.10 is too old for the hashes of a universal lock file.
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=24'
  .venv/bin/python -m pip install --disable-pip-version-check --require-hashes -r requirements.lock
  # setuptools explains at length how editable installs work; its words matter only when it fails.
  .venv/bin/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e . > .venv/install.log 2>&1 ||
    { cat .venv/install.log >&2; exit 1; }
else
  echo "[setup] no Python 3.10 or 3.11 found; install one (apt install python3.11-venv, brew install python@3.11) or uv (https://docs.astral.sh/uv)" >&2
  exit 1
fi
echo "$lock" > "$mark"
