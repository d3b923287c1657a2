"""Teachers: knowledge that exists before a student learns, cached once per data set.

In: texts about the possible answers, larger networks, or frozen language models. Out: anchor
vectors `[answers, dims]` committed under `anchors_cache/`, teacher scores per window, and products
of forecasting teachers. Promise: no training of a student loads a language model; the cache
replaces it.

Files, in order: `motions` (facts about activities), `prompts` (the texts), `text_encoders` (texts
to vectors), `anchors` (the cached vectors and the controls), `ensemble` (the
teacher of larger networks). Teachers of forecasts: `backbones` (language models by name),
`products` (what students read), `llata` and the files around it, `timellm` and the files around it
(`window_prompts`, `prompt_states`, `reprogramming`, `timellm_network`, `timellm_training`).
"""

__all__: list[str] = []
