"Files of word vectors, sound, odd and damaged."

import gzip
import re
import zipfile

import numpy as np
import pytest

from sparse_sharing.tagging.sentences import FormatError
from sparse_sharing.tagging.vectors import read_vectors

GLOVE = "the 0.5 -1 2e-1\nriver 1 2 3\nd'or 4 5 6\nquay 7 8 9\n"


class TestGlove:
    @pytest.fixture(params=["glove.txt", "glove.txt.gz", "glove.zip"])
    def write(self, request, tmp_path):
        "Writes text or bytes to a file, packed if its name says so."
        path = tmp_path / request.param

        def write(content: str | bytes):
            data = content.encode() if isinstance(content, str) else content
            if path.suffix == ".zip":
                with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                    archive.writestr("glove.txt", data)
            else:
                path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
            return path

        return write

    def test_wanted_rows_are_read(self, write):
        rows = read_vectors(write(GLOVE), ["river", "the", "d'or", "zim"])
        assert {w: v.tolist() for w, v in rows.items()} == {
            "the": pytest.approx([0.5, -1, 0.2]),
            "river": [1, 2, 3],
            "d'or": [4, 5, 6],
        }
        assert all(v.dtype == np.float32 for v in rows.values())
        assert read_vectors(write(GLOVE), []) == {}

    def test_windows_line_ends_are_no_part_of_a_number(self, write):
        assert read_vectors(write("a 1 2\r\nb 3 4\r\n"), ["b"])["b"].tolist() == [3, 4]

    @pytest.mark.parametrize(
        "content, line, what",
        [
            pytest.param("the 1 2 3\nriver 1 2\nquay 1 2 3\n", 2, "2 numbers", id="short"),
            pytest.param("the 1 2 3\na 1 2 3\nriver 1 2 3 4\n", 3, "4 numbers", id="long"),
            pytest.param("the 1 2 3\n\nriver 1 2 3\n", 2, "0 numbers", id="blank"),
            pytest.param("400000 100\nthe 1 2 3\n", 2, "others have 100", id="header of others"),
            pytest.param("2 3\nthe 1 2 3\n", 1, "announces 2 rows, 1 are", id="fewer than said"),
            pytest.param("1 3\na 1 2 3\nb 1 2 3\n", 1, "announces 1 rows", id="more than said"),
            pytest.param("the\nriver\n", 1, "0 numbers after the word", id="words alone"),
            pytest.param("the 1\nriver 2\n", 1, "1 numbers after the word", id="one number"),
            pytest.param("the 1 2 3\nriver 1 2", 2, "2 numbers", id="cut between numbers"),
            pytest.param("the 1 2 3\nriver 1 two 3\n", 2, "two", id="no number"),
            pytest.param("the 1 2 3\nriver 1 nan 3\n", 2, "nan", id="not a number"),
            pytest.param(b"the 1 2 3\nr\xefver 1 2 3\n", 2, "decode", id="no UTF-8"),
            pytest.param("", 1, "empty", id="empty"),
        ],
    )
    def test_an_unsound_row_is_named(self, write, content, line, what):
        path = write(content)
        with pytest.raises(FormatError) as error:
            read_vectors(path, ["river"])
        message = str(error.value)
        assert message.startswith(f"{path}:{line}: ") and what in message
        assert re.search("Fetch|download|Convert|give another", message), (
            "it does not say what to do"
        )

    @pytest.mark.parametrize(
        "damage",
        [
            pytest.param(lambda data: data[:-20], id="cut in the middle"),
            pytest.param(lambda data: data[:-5], id="cut in the checksum"),
            pytest.param(lambda data: data[:-8] + bytes(8), id="another checksum"),
            pytest.param(lambda data: data[:10] + b"\xff" + data[11:], id="overwritten"),
            pytest.param(lambda data: b"<html>Not found</html>", id="another file"),
        ],
    )
    def test_a_damaged_archive_is_named(self, tmp_path, damage):
        path = tmp_path / "glove.txt.gz"
        path.write_bytes(damage(gzip.compress(GLOVE.encode())))
        with pytest.raises(FormatError, match=r"glove\.txt\.gz:\d+: .*Fetch the file again"):
            read_vectors(path, ["river"])

    def test_a_file_that_is_not_there_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="nowhere.txt: no such file. Give"):
            read_vectors(tmp_path / "nowhere.txt", [])

    def test_the_measuring_file_has_100_numbers_per_row(self, data_dir):
        path = data_dir / "glove" / "glove.6B.100d.subset.txt.gz"
        rows = read_vectors(path, ["the", "river", "zzzqx"])
        assert set(rows) == {"the", "river"} and {len(v) for v in rows.values()} == {100}


class TestOddFiles:
    "What real files have, and GloVe's own have not."

    @pytest.mark.parametrize(
        "content",
        [
            pytest.param("2 3\nthe 4 5 6\nriver 1 2 3\n", id="header"),
            pytest.param("2\t3\nthe\t4\t5\t6\nriver\t1\t2\t3\n", id="tabs"),
            pytest.param("2 3\nthe\t4 5 6\nriver\t1 2 3\n", id="a tab after the word"),
            pytest.param("the 4 5 6 \nriver 1 2 3 \n", id="spaces at the end"),
            pytest.param("\ufeffriver 1 2 3\nthe 4 5 6\n", id="byte order mark"),
            pytest.param("\ufeff2 3\nriver 1 2 3\nthe 4 5 6\n", id="mark and header"),
            pytest.param("2 3\nthe 4 5 6\nriver 1 2 3", id="no last end of line, but a header"),
            pytest.param("a 0 0 0\nb 0 0 0\n. . . 0 0 0\nriver 1 2 3\n", id="words with spaces"),
        ],
    )
    @pytest.mark.filterwarnings("error")
    def test_they_are_read(self, tmp_path, content):
        path = tmp_path / "vectors.txt"
        path.write_text(content)
        assert read_vectors(path, ["river"])["river"].tolist() == [1, 2, 3]

    def test_words_with_spaces_are_found(self, tmp_path):
        path = tmp_path / "vectors.txt"
        path.write_text("a 1 2\nb 3 4\n. . . 5 6\nat name@domain.com 7 8\n2000 9 10\n")
        rows = read_vectors(path, [". . .", "at name@domain.com", "2000", "at"])
        assert {w: v.tolist() for w, v in rows.items()} == {
            **{". . .": [5, 6], "at name@domain.com": [7, 8], "2000": [9, 10]}
        }

    def test_a_word_that_comes_twice_is_said(self, tmp_path):
        path = tmp_path / "vectors.txt"
        path.write_text("a 1 2\nb 3 4\na 5 6\nb 7 8\nb 9 9\nc 1 1\nc 2 2\n")
        with pytest.warns(UserWarning, match=r"2 wanted words come more than once \(a, b\)"):
            rows = read_vectors(path, ["a", "b"])
        assert rows["a"].tolist() == [1, 2]

    def test_a_last_row_without_an_end_is_said(self, tmp_path):
        path = tmp_path / "vectors.txt"
        path.write_text("a 1 2\nb 3 0.")
        with pytest.warns(UserWarning, match=r":2: the last row has no end of line"):
            assert read_vectors(path, ["b"])["b"].tolist() == [3, 0]

    def test_an_archive_of_several_files_is_refused(self, tmp_path):
        path = tmp_path / "glove.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("glove.50d.txt", "a 1 2\n")
            archive.writestr("glove.100d.txt", "a 1 2\n")
        with pytest.raises(FormatError, match=r"2 files are in this archive \(glove.50d.txt, "):
            read_vectors(path, ["a"])

    def test_binary_vectors_are_refused(self, tmp_path):
        path = tmp_path / "vectors.bin"
        path.write_bytes(b"2 3\nthe \x00\x01\xfe\xff\n\x02\x80 \x90\n")
        with pytest.raises(FormatError, match=":2: .*is the download complete|Convert it to text"):
            read_vectors(path, ["the"])

    def test_no_archive_at_all(self, tmp_path):
        path = tmp_path / "vectors.zip"
        path.write_bytes(b"<html>")
        with pytest.raises(FormatError, match="vectors.zip:1: .*Fetch the file again"):
            read_vectors(path, ["the"])


def test_vectors_of_other_words_are_refused(tmp_path):
    path = tmp_path / "cased.txt"
    path.write_text("ADA 1 2\nMOSS 3 4\n")
    with pytest.raises(FormatError, match="none of the 2 wanted words has a row"):
        read_vectors(path, ["ada", "moss"])
