"""Rendering a synthetic corpus, shard by shard, with the machinery of corpora of photographs."""

import hashlib
import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from mofaface.corpus import CorpusError
from mofaface.corpus.build import plan_shards, said_plainly, write_shards
from mofaface.corpus.index import claim_folder, finish_index, read_summary
from mofaface.corpus.sample import Task
from mofaface.corpus.sources import Item, list_images
from mofaface.corpus.split import SplitName
from mofaface.face_models import load_face_model
from mofaface.synthetic.codes import read_codes
from mofaface.synthetic.config import SynthConfig
from mofaface.synthetic.scene import make_synthetic, person_of
from mofaface.weights import model_identity

SOURCE = "synthetic"


def build_synthetic(config: SynthConfig) -> dict[str, Any]:
    """The summary (corpus.json) of the pictures that now lie in `config.out`; finished shards of an earlier,
    interrupted run are kept."""
    content = content_of(config)
    if not claim_folder(config.out, content):
        return read_summary(config.out)
    shards = plan_shards(list_tasks(config), config.shard_size)
    with said_plainly(config.out):
        make = partial(make_synthetic, config=config)
        write_shards(config.out, shards, make, config.engine, config.workers, "pictures")
        return finish_index(config.out, content, list(shards))


def list_tasks(config: SynthConfig) -> list[Task]:
    """Every picture in order, the last ones held out."""
    tasks = []
    for i in range(config.n):
        key, person = f"{SOURCE}-{i:07d}", f"{SOURCE}-{person_of(config, i):07d}"
        split: SplitName = "train" if i < config.n - config.validation else "validation"
        tasks.append(Task(key, SOURCE, person, split, Item(f"{i:07d}.jpg", Path(), frame=i)))
    return tasks


def content_of(config: SynthConfig) -> dict[str, Any]:
    """What decides how the pictures look: the settings, the face model, the codes and the photographs' names."""
    values = asdict(config)
    for name in ("out", "engine", "workers", "model"):
        del values[name]
    model = load_face_model(config.model)
    values["face_model"] = model_identity(model)
    if config.codes is not None:
        read_codes(config.codes, model)
        values["codes"] = hashlib.sha256(config.codes.read_bytes()).hexdigest()
    items = [item for path in config.backgrounds for item in list_images(path)]
    if config.backgrounds and not items:
        raise CorpusError("--backgrounds holds no picture; check the folders, or leave it out.")
    names = hashlib.sha256("\n".join(item.name for item in items).encode()).hexdigest()
    values["backgrounds"] = {"count": len(items), "names_sha256": names}
    return json.loads(json.dumps(values, default=str))  # as it is read back
