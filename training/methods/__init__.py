"""Methods: ways to train a student, one file each, one contract.

In: scaled windows, labels, and for some methods teacher scores. Out: the module to export. Promise:
nothing that only training needs (text anchors, the alignment layer) reaches the exported graph.

1. A method is a torch module that owns the encoder and everything training needs besides it.
2. `loss(windows, labels)` is minimised in one step; labels are whole numbers or class indices. A
   method with a teacher that scores windows has `loss_with_teacher(windows, labels,
   teacher_scores)` as well.
3. `exported()` is the graph for gateways: encoder and head, scaled windows in, scores out
   (`[batch]` numbers or `[batch, classes]` probabilities).
4. `build_method(recipe, ...)` chooses the file by the recipe's `method`.

Files, in order: `contract` (the `Method`), `plain` (no teacher), `ensemble` (teacher scores),
`knowledge_pruning` (anchors), `open_vocabulary` (anchors of unseen labels), `committee` (several
students in one graph), `build` (the choice). A new method is a new file and one line in `build`.
"""

__all__: list[str] = []
