"""The readable side of a corpus: corpus.json (what it is), index.jsonl (a line per crop) and errors.jsonl
(what is missing, and why). While a build runs, each finished shard has its own part of both in `parts/`."""

import hashlib
import json
import shutil
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mofaface.corpus.config import CorpusConfig, CorpusError
from mofaface.corpus.sample import FORMAT, VERSION, Sample, Task
from mofaface.corpus.shards import write_text

INDEX_FIELDS = ("key", "source", "name", "person", "split", "score", "presence", "disagreement", "yaw")


def content_config(config: CorpusConfig, tasks: list[Task]) -> dict[str, Any]:
    """What decides what is in the corpus: the configuration (not which processes made it) and the names
    of the photographs, as their number and a digest."""
    values = asdict(config)
    values["images"] = sorted(path.resolve().name for path in config.images)
    for name in ("out", "engine", "workers"):
        del values[name]
    keys = "\n".join(sorted(task.key for task in tasks))
    digest = hashlib.sha256(keys.encode()).hexdigest()
    values["photographs"] = {"count": len(tasks), "keys_sha256": digest}
    return json.loads(json.dumps(values))  # as it is read back


def write_part(out: Path, shard: str, tasks: list[Task], samples: list[Sample]) -> None:
    """The index lines and the errors of one shard."""
    index = [
        {name: s.meta[name] for name in INDEX_FIELDS} | {"shard": f"{shard}.tar"} for s in samples if s.jpeg
    ]
    tasks_by_key = {task.key: task for task in tasks}
    errors = [
        {"key": s.key, "source": tasks_by_key[s.key].source, "name": tasks_by_key[s.key].item.name}
        | {"kind": s.kind, "reason": s.reason}
        for s in samples if not s.jpeg
    ]  # fmt: skip
    (out / "parts").mkdir(exist_ok=True)
    write_text(out / "parts" / f"{shard}.json", json.dumps({"index": index, "errors": errors}))


def is_finished(out: Path, shard: str) -> bool:
    """Whether a shard and its part are complete; the part is written first, the shard last."""
    return (out / f"{shard}.tar").is_file() and (out / "parts" / f"{shard}.json").is_file()


def claim_folder(out: Path, wanted: dict[str, Any]) -> bool:
    """Prepares the folder for what `content_config` gave; False when the corpus in it is already complete."""
    out.mkdir(parents=True, exist_ok=True)
    started, done = out / "building.json", out / "corpus.json"
    for file in (done, started):
        if not file.is_file():
            continue
        found = _read_json(file)
        config = found.get("config", {})
        different = [name for name in wanted if config.get(name) != wanted[name]]
        if found.get("version") != VERSION:
            different.append("version")
        if different:
            raise CorpusError(
                f"{out} holds a corpus of another configuration ({file.name} differs in "
                f"{', '.join(different)}); choose another folder, or delete it first."
            )
    if done.is_file():
        return False
    write_text(started, json.dumps({"format": FORMAT, "version": VERSION, "config": wanted}, indent=1))
    return True


def finish_index(out: Path, content: dict[str, Any], shards: list[str]) -> dict[str, Any]:
    """Joins the parts into index.jsonl, errors.jsonl and corpus.json, and returns the last."""
    parts = [_read_json(out / "parts" / f"{shard}.json") for shard in shards]
    index = [line for part in parts for line in part["index"]]
    errors = [line for part in parts for line in part["errors"]]
    for name, lines in (("index", index), ("errors", errors)):
        write_text(out / f"{name}.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    summary = {
        "format": FORMAT, "version": VERSION,
        "convention": "the usual 68 landmarks in crop pixels, (0, 0) the image corner, pixel centres at +0.5",
        "config": content, "shards": [f"{shard}.tar" for shard in shards],
        "counts": _counts(index, errors),
    }  # fmt: skip
    write_text(out / "corpus.json", json.dumps(summary, indent=1))
    (out / "building.json").unlink(missing_ok=True)
    shutil.rmtree(out / "parts", ignore_errors=True)
    return summary


def _counts(index: list[dict[str, Any]], errors: list[dict[str, Any]]) -> dict[str, Any]:
    splits = ("train", "validation")
    return {
        "crops": {split: sum(line["split"] == split for line in index) for split in splits},
        "persons": {
            split: len({line["person"] for line in index if line["split"] == split}) for split in splits
        },
        "sources": dict(sorted(Counter(line["source"] for line in index).items())),
        "left_out": dict(Counter(line["kind"] for line in errors).most_common()),
    }


def read_summary(corpus: Path) -> dict[str, Any]:
    """corpus.json, checked for format and version."""
    file = corpus / "corpus.json"
    if (corpus / "building.json").is_file() and not file.is_file():
        raise CorpusError(
            f"The corpus in {corpus} is not finished; run the same `mofaface corpus build` again."
        )
    if not file.is_file():
        raise CorpusError(
            f"{corpus} holds no corpus.json; make a corpus with "
            "`mofaface corpus build --images DIR --out DIR`."
        )
    summary = _read_json(file)
    if summary.get("format") != FORMAT or summary.get("version") != VERSION:
        raise CorpusError(
            f"{file} has format {summary.get('format')!r} version {summary.get('version')!r}; "
            f"{FORMAT!r} version {VERSION} is read: delete the folder and build the corpus again."
        )
    return summary


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CorpusError(
            f"{file} cannot be read ({error}); delete it and build the corpus again."
        ) from error


def crops_of_shards(corpus: Path) -> Counter[str]:
    """How many crops each shard holds; nothing where the index is not there or cannot be read."""
    try:
        lines = (corpus / "index.jsonl").read_text(encoding="utf-8").splitlines()
        return Counter(json.loads(line)["shard"] for line in lines)
    except (OSError, ValueError, KeyError, TypeError):
        return Counter()


def describe_corpus(corpus: Path) -> str:
    """What a corpus holds, as a few lines of text."""
    summary = read_summary(corpus)
    counts = summary["counts"]
    lines = [f"{corpus}: {summary['format']} version {summary['version']}, {len(summary['shards'])} shards"]
    for split, number in counts["crops"].items():
        lines.append(f"  {split}: {number} crops of {counts['persons'][split]} persons")
    lines += [f"  from {source}: {number}" for source, number in counts["sources"].items()]
    lines += [f"  left out, {kind}: {number}" for kind, number in counts["left_out"].items()]
    return "\n".join(lines)
