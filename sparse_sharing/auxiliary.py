from dataclasses import replace
from .corpora import Corpus
def with_positions(corpus):
    return Corpus(corpus.name, *([replace(s, tags={**s.tags, "pp": tuple(map(str, range(len(s.words))))}) for s in split] for split in corpus.splits.values()))
def with_related(corpus, relatedness):
    raise NotImplementedError
