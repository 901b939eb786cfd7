"What a large text costs: memory and speed of reading and of tagging, each measured in a process of its own."

import subprocess
import sys

import pytest
from helpers import ROOT

MEASURE = """
import resource, sys, time
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
"""


def measured(code: str, *arguments: object) -> list[float]:
    "The numbers that a program prints."
    command = [sys.executable, "-c", MEASURE + code, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    return [float(number) for number in done.stdout.split()]


LONG_WORD = """
import warnings
from sparse_sharing.tagging.batches import Vocabulary, encode
from sparse_sharing.tagging.encoder import CharCNN, Sizes
from sparse_sharing.tagging.sentences import Corpus, Sentence
warnings.simplefilter("ignore")
tweets = [Sentence(tuple(f"word{i}{j}" for j in range(10)), {}) for i in range(600)]
tweets[300] = Sentence(("x" * 20_000,), {})
vocab = Vocabulary.build(Corpus("tweets", tweets, tweets, tweets))
network = CharCNN(len(vocab.chars), Sizes())
before = peak()
split = encode(tweets, vocab)
for batch in split.in_order(100):
    network(batch.chars).sum().backward()
print(peak() - before)
"""


@pytest.mark.e2e
def test_one_endless_word_costs_little():
    "It took 608 MB when all 20,000 characters were read."
    (taken,) = measured(LONG_WORD)
    print(f"{taken / 1e6:.0f} MB")
    assert taken < 150e6, f"{taken / 1e6:.0f} MB"


READ = """
from sparse_sharing.tagging.declared import read_columns
before, start = peak(), time.process_time()
corpus = read_columns(sys.argv[1], "word pos ner", "ner=bioes")
words = sum(len(s.words) for split in corpus.splits.values() for s in split)
print(words, time.process_time() - start, peak() - before)
"""


@pytest.mark.slow
def test_a_million_words_are_read_in_seconds(tmp_path):
    "In bounds that leave room for a machine four times as slow."
    from sparse_sharing.tagging.generated import generate

    sentences = generate(2000, 1, 1).train
    blocks = []
    for s in sentences:
        rows = zip(s.words, s.tags["pos"], s.tags["ner"], strict=True)
        blocks.append("".join("\t".join(row) + "\n" for row in rows))
    text = "\n".join(blocks) + "\n"
    words = sum(len(s.words) for s in sentences)
    (tmp_path / "train.tsv").write_text(text * (1_000_000 // words + 1), encoding="utf-8")
    for name in ("dev.tsv", "test.tsv"):
        (tmp_path / name).write_text(text, encoding="utf-8")
    count, seconds, taken = measured(READ, tmp_path)
    print(f"{count:,.0f} words: {seconds:.1f} s of processor time, {taken / 1e6:.0f} MB")
    assert count > 1_000_000
    assert seconds < 20 and taken < 400e6, f"{seconds:.1f} s, {taken / 1e6:.0f} MB"


TAG = """
import torch
from sparse_sharing.masks import Mask
from sparse_sharing.sharing import HardSharing, SparseSharing
from sparse_sharing.tagging.batches import Vocabulary
from sparse_sharing.tagging.encoder import Encoder, Sizes, linear_head
from sparse_sharing.tagging.generated import generate
from sparse_sharing.tagging.tagger import Tagger
torch.set_num_threads(1)
corpus = generate(600, 1, 1500)
vocab, text = Vocabulary.build(corpus), [s.words for s in corpus.test]
words = sum(map(len, text))
for hidden, kind in ((200, "hard"), (200, "sparse"), (50, "sparse")):
    sizes = Sizes(hidden=hidden)
    encoder = Encoder(vocab, sizes)
    heads = {task: linear_head(len(tags), sizes) for task, tags in vocab.tags.items()}
    masks = {t: Mask.random(encoder, 0.56, torch.Generator().manual_seed(i)) for i, t in enumerate(heads)}
    tagger = Tagger(HardSharing(encoder, heads) if kind == "hard" else SparseSharing(encoder, heads, masks), vocab)
    times = []
    for _ in range(4):
        start = time.process_time()
        tagger.tag(text)
        times.append(time.process_time() - start)
    print(words / min(times))
"""


@pytest.mark.slow
def test_words_are_tagged_fast():
    "Three tasks at once, on one core: hard sharing and three subnets of the paper's size, and of `your_data`'s."
    hard, sparse, small = measured(TAG)
    print(f"{hard:,.0f} {sparse:,.0f} {small:,.0f} words a second of processor time")
    assert hard > 2 * sparse and small > sparse
    assert small > 50_000
