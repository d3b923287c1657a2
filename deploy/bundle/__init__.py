"""The offline bundle: all of a gateway's software in one archive, for a machine without network.

In: a checkout with `requirements-gateway.txt`, and a package index. Out: an archive
`kpstream-{version}-{machine}-py{XY}.tar` in the form of `deploy.gateway.bundle`. Promise: every
file in it has its digest in `bundle.json`, every wheel fits the machine, every requirement is met
inside, and the same checkout gives the same bytes.

1. A `target` is a machine and a Python: its tags, the names of its platforms, its markers.
2. `fetch` brings the wheels of the target, by hash, from a `checkout`. It builds what no index has
   (Faust for aarch64, without its compiled parts) and kpstream, with tools that have hashes too.
3. `wheels` reads what a wheel says of itself and what is in it.
4. `sbom` writes the bill of materials (CycloneDX), also that of a container.
5. `build` puts all of it into the archive; `check` reads an archive again and believes nothing.
   `content` is what both know.

```python
from deploy.bundle.build import build_bundle
from deploy.bundle.check import check_bundle
from deploy.bundle.target import Target

archive = build_bundle(Path("."), Target("aarch64", "3.11"), Path("dist"), print)
assert not check_bundle(archive).problems
```

`kpstream bundle build`, `kpstream bundle check` and `make bundle` do the same. Only `build` and
`sbom` need the extra `[bundle]`.
"""

__all__: list[str] = []
