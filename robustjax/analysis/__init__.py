"""What the papers look at in trained networks: embeddings, logits, loss surfaces, convergence.

Computes numbers; `reports.figures` draws them. Accuracies under attack are in `evaluation`.
"""
