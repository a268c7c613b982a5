#!/bin/sh
# Makes a lane's venv from its lock file, unless it is there and whole. Works with uv or with a plain Python.
#   LANE=main   .venv from requirements/main.lock with the newest of Python 3.13, 3.12 and 3.11 that is found
#   LANE=tf215  .venv-tf215 from requirements/tf215.lock with Python 3.11
#   PYTHON=...  the Python to take, if it suits the lane
set -eu
cd "$(dirname "$0")/.."
lane=${LANE:-main}
case $lane in
  main) venv=.venv versions="3.13 3.12 3.11" ;;
  tf215) venv=.venv-tf215 versions=3.11 ;;
  *) echo "[setup] LANE is $lane; allowed: main, tf215" >&2; exit 2 ;;
esac
newest=${versions%% *}
lock=requirements/$lane.lock
mark=$venv/.complete
sum=$(cat "$lock" setup.cfg pyproject.toml | cksum)
version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }
wanted=$versions
if [ -n "${PYTHON:-}" ]; then
  wanted=$(version_of "$PYTHON") || { echo "[setup] PYTHON is $PYTHON, which does not run" >&2; exit 2; }
  case " $versions " in *" $wanted "*) ;; *) echo "[setup] PYTHON is $PYTHON, Python $wanted; allowed with LANE=$lane: $versions" >&2; exit 2 ;; esac
fi
if [ -f "$mark" ] && [ "$(cat "$mark")" = "$sum" ]; then
  case " $wanted " in *" $(version_of "$venv/bin/python") "*) exit 0 ;; esac
fi

# Sets `python` to the first of the candidates that runs and is one of `versions`. A pyenv shim may be there and not run.
python=
find_python() {
  for candidate in "$@"; do
    if "$candidate" -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] not in sys.argv[1:])' $versions >/dev/null 2>&1
    then python=$(command -v "$candidate"); return 0; fi
  done
  return 1
}
find_newest() {
  for version in $versions; do
    find_python "python$version" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python && return 0
  done
  find_python python3 python
}
if [ -n "${PYTHON:-}" ]; then python=$(command -v "$PYTHON"); else find_newest || true; fi

echo "[setup] making $venv from $lock (a minute or two where nothing is cached)"
rm -rf "$venv"
if command -v uv >/dev/null 2>&1; then
  uv venv --quiet --python "${python:-$newest}" "$venv"
  uv pip install --python "$venv/bin/python" --compile-bytecode --require-hashes -r "$lock"
  uv pip install --python "$venv/bin/python" --quiet --no-deps --no-build-isolation -e .
elif [ -n "$python" ]; then
  "$python" -m venv "$venv" || { echo "[setup] $python cannot make a venv; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
  # The pip that comes with an early Python 3.11 is too old for the hashes of a universal lock file.
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=24'
  "$venv/bin/python" -m pip install --disable-pip-version-check --require-hashes -r "$lock"
  # setuptools explains at length how editable installs work; its words matter only when it fails.
  "$venv/bin/python" -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e . > "$venv/install.log" 2>&1 ||
    { cat "$venv/install.log" >&2; exit 1; }
else
  echo "[setup] no Python $(echo "$versions" | sed 's/ / or /g') found; install one (apt install python$newest-venv, brew install python@$newest) or uv (https://docs.astral.sh/uv)" >&2
  exit 1
fi
echo "$sum" > "$mark"
