"""The Markdown of a plan's results, from the JSON that is there."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import autoattack, early_stopping, memory, results, step_profile, table, train_step
from benchmarks.plan import conclusions
from benchmarks.plan.part import Content, Step
from benchmarks.plan.records import DONE, Entry, Records

SPEED_RUN_BATCH = 512

Contents = Mapping[str, Content]


def markdown(
    steps: Sequence[Step], records: Records, left_out: Mapping[str, str], *, rehearsed: bool = False
) -> str:
    """A section for each step of which there is a result, and what is missing.

    Args:
      steps: of the plan.
      records: what was found.
      left_out: "step part" -> why there is no result, as `carry_out` says it.
      rehearsed: whether the results are those of a rehearsal, and so mean nothing.
    """
    found = {step.name: records.entries(step) for step in steps}
    lines = ["# GPU plan", ""]
    if rehearsed:
        lines += ["**A rehearsal: tiny sizes on a CPU. No number here means anything.**", ""]
    environment = _environment(found.values())
    if environment:
        lines += [results.describe(environment), ""]
    device = environment.get("device", "unknown device")
    for step in sorted(steps, key=lambda step: step.letter):
        contents = {
            name: entry["content"]
            for name, entry in found[step.name].items()
            if entry["content"] and entry["content"].get("rows")
        }
        lines += [f"## ({step.letter}) {step.title}", ""]
        if contents:
            for name in contents:
                lines.append(f"`{found[step.name][name]['command']}`  ")
            lines += ["", _SECTIONS[step.name](contents, device, found), ""]
        lines += [*_missing(step, found[step.name], left_out), ""]
    return "\n".join(lines).rstrip() + "\n"


def _missing(step: Step, entries: Mapping[str, Entry], left_out: Mapping[str, str]) -> list[str]:
    """A line for each part of a step that is not finished."""
    lines = []
    for part in step.parts:
        entry = entries.get(part.name)
        if entry is not None and entry["state"] == DONE:
            continue
        why = left_out.get(f"{step.name} {part.name}", entry["state"] if entry else "not begun")
        lines.append(f"* Not measured to the end: {part.name} ({why}).")
        if entry is not None and entry["said"]:
            lines += ["", "```", *entry["said"].strip().splitlines()[-8:], "```"]
    return lines


def _environment(found: Any) -> dict[str, Any]:
    """Of the first part that says where it ran."""
    for entries in found:
        for entry in entries.values():
            if entry["content"] and "environment" in entry["content"]:
                return entry["content"]["environment"]
    return {}


def _rows(contents: Contents, *names: str) -> list[dict[str, Any]]:
    """The rows of some parts, of all if none is named."""
    return [row for name in names or contents for row in contents.get(name, {}).get("rows", [])]


def _correctness(contents: Contents, device: str, found: Any) -> str:
    lines = [conclusions.of_distances(row) for row in _rows(contents, "against_cpu")]
    for name, precision in (("tests_float32", "float32"), ("tests_tf32", "TF32")):
        lines += [conclusions.of_tests(row, precision) for row in _rows(contents, name)]
    return _listed(lines)


def _train_step(contents: Contents, device: str, found: Any) -> str:
    measured = _rows(contents, "resnet_18", "wide_resnet_34_10")
    parts = []
    if measured:
        entries = [train_step.entries(row) for row in measured]
        parts.append(table.markdown(train_step.HEADER, entries))
    for row in _rows(contents, "profile"):
        title = f"{row['model']} {row['method']} {row['precision']}, batch {row['batch_size']}:"
        parts.append(f"{title}\n\n" + step_profile.tables(row).replace("\n| kind", "\n\n| kind"))
    return "\n\n".join(parts)


def _early_stopping(contents: Contents, device: str, found: Any) -> str:
    rows = _rows(contents)
    return "\n\n".join(
        (
            table.markdown(early_stopping.HEADER, [early_stopping.entries(row) for row in rows]),
            early_stopping.chunk_table(rows),
            _listed([conclusions.of_early_stopping(rows, device)]),
        )
    )


def _memory(contents: Contents, device: str, found: Any) -> str:
    rows = _rows(contents)
    return table.markdown(memory.HEADER, [memory.entries(row, rows) for row in rows])


def _speed_run(contents: Contents, device: str, found: Any) -> str:
    evaluation = next(iter(_rows(contents, "evaluation")), None)
    rows = _rows(contents, "training")
    return _listed([conclusions.of_speed_run(rows, evaluation, SPEED_RUN_BATCH)] if rows else [])


def _autoattack(contents: Contents, device: str, found: Any) -> str:
    rows = _rows(contents)
    text = table.markdown(autoattack.HEADER, [autoattack.entries(row) for row in rows])
    return f"{text}\n\n{_listed([conclusions.of_autoattack(rows)])}"


def _repetition(contents: Contents, device: str, found: Any) -> str:
    lines = [conclusions.of_repetition(row) for row in _rows(contents, "equal")]
    for row in _rows(contents, "price"):
        usual = next(
            (other for other in _steps_of(found) if _same_step(row, other)),
            None,
        )
        lines.append(conclusions.of_price(row, usual))
    return _listed(lines)


def _steps_of(found: Mapping[str, Mapping[str, Entry]]) -> list[dict[str, Any]]:
    """All rows of the training step."""
    return [
        row
        for name, entry in found.get("train_step", {}).items()
        if name != "profile"
        for row in (entry["content"] or {}).get("rows", [])
    ]


def _same_step(one: dict[str, Any], other: dict[str, Any]) -> bool:
    names = ("model", "method", "precision", "batch_size", "steps", "side")
    return "images_per_second" in other and all(one[name] == other[name] for name in names)


def _listed(sentences: Sequence[str]) -> str:
    return "\n".join(f"* {sentence}" for sentence in sentences)


_SECTIONS: dict[str, Callable[[Contents, str, Any], str]] = {
    "correctness": _correctness,
    "train_step": _train_step,
    "early_stopping": _early_stopping,
    "memory": _memory,
    "speed_run": _speed_run,
    "autoattack": _autoattack,
    "repetition": _repetition,
}
