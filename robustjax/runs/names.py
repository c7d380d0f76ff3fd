"""What the files in the folder of a run are called."""

FLAGS, METRICS, CHECKPOINTS = "flags.txt", "metrics.jsonl", "checkpoints"
ORIGIN = "weights.json"
EVALUATION, DIAGNOSIS, TRANSFER = "evaluation.json", "diagnosis.json", "transfer.json"
FIGURES, EXAMPLES = "figures", "adversarial_examples.json"
