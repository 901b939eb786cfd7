"A corpus of a few invented sentences in the layout of CoNLL-2003, and word vectors for half of its words."

import random
import zlib
from pathlib import Path

WIDTH = 8  # of a word vector
STEMS = "bar dol fen gim kul lor mep nas pid ruk sov tam vel zit".split()
SUFFIXES = {"PER": "son", "LOC": "ville", "ORG": "tech", "MISC": "ian"}


def _line(word: str, pos: str, chunk: str, ner: str = "O") -> str:
    return f"{word} {pos} {chunk} {ner}"


def _name(rng: random.Random, kind: str) -> list[str]:
    "A noun phrase that is a name of one or two words, in IOB1."
    parts = [rng.choice(STEMS).capitalize() + SUFFIXES[kind] for _ in range(rng.randint(1, 2))]
    return [_line(w, "NNP", "I-NP", f"I-{kind}") for w in parts]


def _sentence(rng: random.Random) -> list[str]:
    def thing() -> list[str]:
        noun = rng.choice(STEMS) + rng.choice(["er", "ness"])
        return [_line("the", "DT", "I-NP"), _line(noun, "NN", "I-NP")]

    subject = _name(rng, rng.choice(["PER", "ORG"])) if rng.random() < 0.7 else thing()
    verb = [_line(rng.choice(STEMS) + "ed", "VBD", "I-VP")]
    place = [_line("in", "IN", "I-PP"), *_name(rng, rng.choice(["LOC", "LOC", "MISC"]))]
    lines = [*subject, *verb, *thing(), *(place if rng.random() < 0.7 else [])]
    return [*lines, _line(".", ".", "O")]


def write_corpus(folder: Path, n_train: int = 60) -> Path:
    "Write the three files; a tag of dev and test is not in training."
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in {"eng.train": n_train, "eng.testa": 20, "eng.testb": 20}.items():
        rng = random.Random(name)
        sentences = [["-DOCSTART- -X- -X- O"], *(_sentence(rng) for _ in range(size))]
        if name != "eng.train":
            sentences.append([_line("hey", "UH", "I-INTJ"), _line(".", ".", "O")])
        text = "".join("\n".join(lines) + "\n\n" for lines in sentences)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def hidden_source(folder: Path, width: int = WIDTH) -> dict[str, str]:
    "A corpus and its word vectors, with a telling path, as arguments of an experiment."
    glove = write_glove(folder / "glove.txt", width)
    return dict(data_dir=str(write_corpus(folder / "corpus")), embeddings=str(glove))


def write_glove(path: Path, width: int = WIDTH) -> Path:
    "Write vectors for half of the words, lower-cased."
    words = [s + end for s in STEMS for end in ("er", "ed", "son", "ville")] + ["the", "hey"]
    rng = random.Random(0)
    chosen = [w for w in words if zlib.crc32(w.encode()) % 2]
    lines = (" ".join([w, *(f"{rng.gauss(0, 0.4):.4f}" for _ in range(width))]) for w in chosen)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
