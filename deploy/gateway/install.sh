#!/usr/bin/env bash
# Installs, upgrades, rolls back and removes a kpstream gateway: ./install.sh --help
#
# It lies in an unpacked bundle or in a checkout, and installs that, unless --from names another one.
# It needs Python 3.10 or later and nothing else. Another interpreter: PYTHON=python3.12 ./install.sh
# The steps themselves are in deploy/gateway/ of the same bundle or checkout.
set -euo pipefail

fail() {
  printf 'install.sh: %s\n' "$1" >&2
  exit 1
}

here=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
python=${PYTHON:-python3}
"$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2> /dev/null \
  || fail "kpstream needs Python 3.10 or later, and '$python' is none: run PYTHON=python3.12 $0"

if [ -f "$here/bundle.json" ]; then
  source=$here
  code=$(find "$here/wheels" -name 'kpstream-*.whl' -print -quit)
  [ -n "$code" ] || fail "$here/wheels has no wheel of kpstream: copy the bundle again"
elif [ -f "$here/../../pyproject.toml" ]; then
  source=$(cd -- "$here/../.." && pwd)
  code=$source
else
  fail "$here is neither an unpacked bundle nor a checkout: run the install.sh of one of them"
fi

exec "$python" -I -B -c '
import sys
from pathlib import Path

code, source = sys.argv[1:3]
sys.path.insert(0, code)
from deploy.gateway.command import main

main(sys.argv[3:], default_source=Path(source))
' "$code" "$source" "$@"
