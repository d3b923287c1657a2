"""Hosts of a fleet below a folder: their homes, a client in place of ssh, a bundle that installs.

The command that a host gets runs in a real shell, with the host's own home; only `/opt/kpstream` is
below that home too, and `sudo` is the tests' own.
"""

from __future__ import annotations

import stat
from pathlib import Path

from tests.fakes.bundles import make_bundle, pack, seal

__all__ = ["fake_ssh", "host_shell", "installing_bundle"]

_INSTALL = r"""#!/bin/bash
here=$(cd -- "$(dirname -- "$0")" && pwd)
echo "$@" > "$HOME/arguments"
cat > "$HOME/settings"
echo run >> "$HOME/runs"
if [ -e "$HOME/exit-code" ]; then
  echo "install.sh: version did not become ready (sick); 1 runs again"
  exit "$(cat "$HOME/exit-code")"
fi
mkdir -p "$HOME/opt/kpstream/current"
digest=$(sha256sum "$here/bundle.json" | cut -d ' ' -f 1)
version=$(sed 's/.*"version": "\([^"]*\)".*/\1/' "$here/bundle.json")
printf '{"version": "%s", "digest": "%s"}\n' "$version" "$digest" \
  > "$HOME/opt/kpstream/current/version.json"
echo "version $version runs and is ready"
"""

_SHELL = r"""#!/bin/bash
# $1: home; $2: the command
export HOME=$1
mkdir -p "$HOME/bin" && cd "$HOME" || exit 1
printf '#!/bin/sh\n[ "$1" = -n ] && shift\n[ -e "%s/no-sudo" ] && exit 1\nexec "$@"\n' "$HOME" \
  > bin/sudo
printf '#!/bin/sh\n[ "$1" = -u ] && { echo 1000; exit; }\nexec /usr/bin/id "$@"\n' > bin/id
chmod +x bin/sudo bin/id
export PATH="$HOME/bin:$PATH"
exec sh -c "${2//\/opt\/kpstream/$HOME/opt/kpstream}"
"""

_SSH = r"""#!/bin/bash
printf '%s\n' "$*" >> "HOSTS/ssh.log"
while [ "$1" != -- ]; do shift; done
home="HOSTS/$2"
if [ ! -d "$home" ]; then
  echo "ssh: connect to host $2 port 22: Connection refused" >&2
  exit 255
fi
if [ -e "$home/refuses" ]; then cat "$home/refuses" >&2; exit 255; fi
if [ -e "$home/cut" ] && [[ "$3" == *"cat >"* ]]; then
  rm "$home/cut"
  head -c 5000 | "HOSTS/shell" "$home" "$3"
  exit 255
fi
exec "HOSTS/shell" "$home" "$3"
"""


def _program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def host_shell(hosts: Path) -> Path:
    """Write the shell of the hosts below a folder; returns its path."""
    return _program(hosts / "shell", _SHELL)


def fake_ssh(hosts: Path) -> Path:
    """Write the client; a folder below `hosts` is a host of that address."""
    host_shell(hosts)
    return _program(hosts / "ssh", _SSH.replace("HOSTS", str(hosts)))


def installing_bundle(folder: Path, version: str = "1.0.0", machine: str | None = None) -> Path:
    """A bundle whose installer only notes in the home of the host what it was asked for."""
    made = make_bundle(folder, version=version, machine=machine, wheel=b"w" * 50_000)
    (made / "install.sh").write_text(_INSTALL)
    seal(made)
    return pack(made, top=f"kpstream-{version}/")
