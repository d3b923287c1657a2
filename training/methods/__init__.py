"""Ways to train a student; one file each, one contract (`Method`, in contract.py).

1. A method is a torch module that owns the encoder and whatever training needs besides it.
2. `loss(windows, labels)` is what one step minimises; labels are integers (cycles or class index).
   A method that listens to a teacher's scores has `loss_with(windows, labels, hints)` as well.
3. `exported()` is the graph that goes to gateways: encoder and head, scaled windows in, scores out
   (`rul` [batch] in cycles or `probabilities` [batch, classes]). What only training needs (text
   anchors, the alignment layer) is folded away or left behind.
4. `build_method(recipe, ...)` in contract.py picks the file by the recipe's `method`.

A new teacher is a new file here plus one line in `build_method`.
"""
