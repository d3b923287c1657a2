"""Teachers: knowledge that exists before a student learns, cached once per data set.

In: texts about the possible answers, or larger networks. Out: anchor vectors `[answers, dims]`
committed under `anchors_cache/`, and teacher scores per window. Promise: no training loads a
language model; the cache replaces it.

Files, in order: `prompts` (the texts), `anchors` (their vectors and the controls), `ensemble` (the
teacher of larger networks).
"""

__all__: list[str] = []
