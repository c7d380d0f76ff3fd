"""What the files in the folder of a run are called."""

FLAGS, METRICS, CHECKPOINTS = "flags.txt", "metrics.jsonl", "checkpoints"
ORIGIN = "weights.json"
CORRUPTIONS = "corruptions.json"
EVALUATION, DIAGNOSIS, TRANSFER = "evaluation.json", "diagnosis.json", "transfer.json"
FIGURES, EXAMPLES = "figures", "adversarial_examples.json"
EPSILON_CURVES = f"{FIGURES}/epsilon_curves.png"
