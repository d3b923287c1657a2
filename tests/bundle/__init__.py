"""A bundle, installed where nothing else is: clean roots of Debian 12, for both machines.

1. `roots`: a clean root (debootstrap), and commands in a copy of it, without any network. A root of
   another machine runs under qemu's emulation of its processor (binfmt).
2. `windows`: 256 real windows for every shipped student.
3. `containerfile`: the lines of deploy/gateway/Containerfile, which install the bundle there too.
4. `inside`: what runs in the root, with the Python of the bundle: scores of all windows, and a
   whole gateway with mosquitto that gets real readings. Standard library and kpstream only.
5. `compare`: both machines side by side: how far apart their scores are, and the accounts.

`python -m tests.bundle BUNDLE...` does it all and writes docs/results/bundle.md; it needs root,
debootstrap, qemu-user-static and binfmt-support, and the data sets. `test_installed.py` installs a
bundle for this machine into a fresh environment without network.
"""
