### training/augment.py
14: readings; C-MAPSS windows are padded from this length on
### training/bench/classical.py
41: ridge gives distances, not probabilities: use one-hot of the largest
### training/bench/openvocab.py
105: impossible without a deadline
### training/bench/report.py
44: the interval of two means is too wide to mean anything
### training/bench/runs.py
85: Start again: a checkpoint lacks the measures of its passes.
91: impossible without a deadline
### training/bench/stats.py
26: Two-sided 97.5 % quantiles of Student's t for 1 to 30 degrees of freedom.
32: values: fewer get no interval
131: For two values the interval of Student's t is too wide to mean anything.
### training/bench/unknown.py
64: Drop the column of the activity, which a student without it would not have.
### training/candidate.py
308: An installed package may be inside the checkout of another project.
352: A comment and the recipe: together they are the TOML that trains it again.
### training/datasets/arem.py
84: One file of the original archive separates its values by blanks.
### training/datasets/ims.py
36: g: the rig does not run below it
### training/datasets/rfid_har.py
32: frontal, vertical, lateral acceleration, signal strength
### training/distill.py
213: At first the average must forget the random start faster than its final decay does.
268: the order of sums, and so the last bit, depends on it
### training/export/artifact.py
45: 100 000 numbers of four bytes windows that are also scored one by one of the range of a channel; sensors resolve 1e-3 times the error of float32: ONNX Runtime sums in another order times PARITY: a larger difference is never rounding
59: The TorchScript exporter gives a graph of 30 plain operators that contains all weights; its successor needs onnxscript and is no better here.
62: Both warn about batch sizes in recurrent layers; _check_parity checks 1 and 64.
### training/export/quantize.py
59: onnxruntime recommends a preparation that has no effect here
### training/methods/knowledge_pruning.py
29: target temperature 1/10: 0.99 of the mass on the positives a feature whose last ReLU is all zero must not become NaN
146: torch.sort exports to the same operator; topk keeps the graph within plain ONNX opset 17.
### training/methods/open_vocabulary.py
64: Training changes the layer only within the span of the seen anchors; outside of it the layer is still the noise of its random start.
### training/methods/plain.py
15: of the range
### training/redistill.py
33: it needs torch, which --help does not
230: a student of the zoo becomes the registry's first version
### training/report.py
18: it needs torch
### training/starters/build.py
47: windows that give the ranges of eight-bit activations distance between the engine numbers of joined subsets
128: impossible without a deadline
### training/students/conditions.py
24: how far outside the range seen in training a scaled sensor may lie
106: A sensor that is constant under a condition may still flicker in the last digit.
### training/students/encoders.py
194: traced here, so that exported graphs keep their node order
### training/students/statistics.py
53: newest readings lowest frequencies
56: keeps the gradient of the square root finite
### training/teachers/anchors.py
48: answers
### training/teachers/ensemble.py
67: impossible without a deadline
### training/teachers/prompts.py
166: moves, hard impacts, fast rhythm, trunk upright, leans back, 1
175: moves, steps, rotates about the vertical axis, goes up, goes down, legs straight, 1
183: moves, hard impacts, fast rhythm, legs straight, 1
### training/uncertainty/calibration.py
45: of the rejected windows: the share rejected for their distance
47: cycles: deviation of the Gaussian weights of residuals around a knot cycles
94: A new engine has the same weight as each engine seen.
### training/uncertainty/fit.py
163: the key of published manifests
### training/uncertainty/out_of_distribution.py
27: of the variance of a statistic: limits the weight of directions that hardly vary of max_distance: the probabilities shrink gradually over this part of it
### training/uncertainty/tempered.py
10: of a probability: its logarithm must stay finite