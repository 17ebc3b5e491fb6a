"""The training corpus: photographs in, 240×240 crops, landmarks and a split by person out, in tar shards."""

from mofaface.corpus.build import build_corpus
from mofaface.corpus.config import CorpusConfig, CorpusError
from mofaface.corpus.index import describe_corpus
from mofaface.corpus.load import CorpusSplit, load_corpus
from mofaface.corpus.sources import iterate_images, list_images

__all__ = [
    "CorpusConfig",
    "CorpusError",
    "CorpusSplit",
    "build_corpus",
    "describe_corpus",
    "iterate_images",
    "list_images",
    "load_corpus",
]
