"""A wheel named kpstream that is small: its gateway only answers `/ready`, as a test wants it."""

from __future__ import annotations

import ensurepip
import io
import shutil
import zipfile
from pathlib import Path

import deploy.gateway
from deploy.gateway.service import UNITS
from tests.fakes.bundles import seal

__all__ = ["add_pip", "small_wheel"]

CLI = """
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

STATUS, VERSION = {status}, "{version}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(STATUS)
        self.end_headers()
        self.wfile.write(b'{{"problems": ["the log is full"]}}')

    def log_message(self, *words):
        pass


def main(prog_name):
    if sys.argv[1:] == ["gateway"]:
        print(VERSION, "in", os.environ["KPSTREAM_GATEWAY_STATE_DIR"], flush=True)
        if STATUS == 0:
            sys.exit("it does not start")
        port = int(os.environ.get("KPSTREAM_GATEWAY_CONSOLE_PORT", "8765"))
        HTTPServer(("127.0.0.1", port), Handler).serve_forever()
    if sys.argv[1:3] == ["certs", "make"]:
        make_certificates(sys.argv[sys.argv.index("--out") + 1])
    print(VERSION, prog_name, *sys.argv[1:])


def make_certificates(folder):
    for name in ("ca", "devices-ca", "servers/mosquitto", "services/bridge"):
        for end in ("pem", "key"):
            path = Path(folder, name).with_suffix("." + end)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(end)


if __name__ == "__main__":
    main("deploy.cli")
"""
FILES = """
import sys
from pathlib import Path

folder = Path(sys.argv[1])
folder.mkdir(exist_ok=True)
unit = "[Service]\\n# {version}\\nExecStart=/opt/kpstream/current/venv/bin/kpstream gateway\\n"
program = "#!/bin/sh\\nexec /opt/kpstream/current/venv/bin/kpstream \\"$@\\"\\n"
settings = "KPSTREAM_GATEWAY_STATE_DIR=/var/lib/kpstream\\n"
lists = ("mosquitto-devices.acl", "mosquitto-services.acl")
for name in ("mosquitto.conf", "sysusers.conf", *lists):
    (folder / name).write_text("")
(folder / "gateway.env").write_text(settings)
(folder / "kpstream").write_text(program)
for name in {units}:
    (folder / name).write_text(unit)
"""


def small_wheel(version: str, status: int = 200) -> bytes:
    """A wheel named kpstream whose gateway answers `/ready` with the status; 0: it ends at once."""
    installer = Path(deploy.gateway.__file__).parent
    content = {
        # The installer itself is the real one, because install.sh takes it from the wheel.
        **{f"deploy/gateway/{path.name}": path.read_text() for path in installer.glob("*.py")},
        "deploy/__init__.py": "",
        "deploy/cli.py": CLI.format(status=status, version=version),
        "deploy/gateway/__init__.py": "",
        "deploy/gateway/files.py": FILES.format(version=version, units=UNITS),
        f"kpstream-{version}.dist-info/METADATA": (
            f"Metadata-Version: 2.1\nName: kpstream\nVersion: {version}\n"
        ),
        f"kpstream-{version}.dist-info/WHEEL": (
            "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        ),
    }
    record = f"kpstream-{version}.dist-info/RECORD"
    content[record] = "".join(f"{name},,\n" for name in (*content, record))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in content.items():
            archive.writestr(name, text)
    return packed.getvalue()


def add_pip(folder: Path) -> None:
    """Add the wheel of pip to a bundle if this Python has it, as a real bundle does."""
    for path in Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl"):
        shutil.copy(path, folder / "wheels")
    seal(folder)
