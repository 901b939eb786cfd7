"A file is there whole or not at all, and what was changed since is found out, at every place of it."

import errno
import json
import multiprocessing
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import save_file

from sparse_sharing.files import (
    Damaged,
    digest,
    load_about,
    load_json,
    load_tensors,
    remove,
    save_json,
    save_tensors,
    write_whole,
)

TENSORS = {
    "float": torch.arange(6, dtype=torch.float32).reshape(2, 3) / 7,
    "double": torch.tensor([1.5, -0.0, float("inf")], dtype=torch.float64),
    "half": torch.tensor([0.5, 2.0], dtype=torch.float16),
    "bfloat": torch.tensor([0.5, 3.0], dtype=torch.bfloat16),
    "long": torch.tensor([2**40, -1]),
    "byte": torch.tensor([0, 255], dtype=torch.uint8),
    "bool": torch.tensor([[True, False], [False, True]]),
    "point": torch.tensor(3.25),
    "flag": torch.tensor(True),
    "empty": torch.empty(0, 4),
    "ümläut": torch.tensor([1]),
}
ABOUT = {"epoch": 3, "names": ["a", "ü"], "score": 0.1, "none": None}


class TestWriteWhole:
    def test_a_file_and_its_folders_appear(self, tmp_path):
        path = tmp_path / "a" / "b" / "file.txt"
        write_whole(path, lambda draft: draft.write_text("text"))
        assert path.read_text() == "text" and list(path.parent.iterdir()) == [path]
        write_whole(str(path), lambda draft: draft.write_text("new"))
        assert path.read_text() == "new"

    @pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt(), MemoryError()])
    def test_what_fails_leaves_the_old_file_and_no_draft(self, tmp_path, error):
        path = tmp_path / "file.txt"
        path.write_text("old")

        def fail(draft):
            draft.write_text("ne")
            raise error

        with pytest.raises(type(error)):
            write_whole(path, fail)
        assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]

    def test_nothing_has_its_name_before_it_is_whole(self, tmp_path):
        path, seen = tmp_path / "file.txt", []

        def write(draft):
            draft.write_text("half")
            seen.append((path.exists(), draft.parent == tmp_path, draft.name))
            draft.write_text("halfwhole")

        write_whole(path, write)
        [(there, beside, name)] = seen
        assert not there and beside and name.startswith(".file.txt.") and name.endswith(".draft")

    def test_two_who_write_at_once_have_drafts_of_their_own(self, tmp_path):
        path, drafts = tmp_path / "file.txt", []

        def write(draft):
            drafts.append(draft)
            if len(drafts) == 1:
                write_whole(path, write)
                assert path.read_text() == "from 2"
                draft.write_text("from 1")
            else:
                draft.write_text("from 2")

        write_whole(path, write)
        assert drafts[0] != drafts[1] and path.read_text() == "from 1"
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.e2e
    @pytest.mark.skipif(os.name != "posix", reason="no permissions of this kind")
    @pytest.mark.parametrize("mask", ["022", "077", "002"])
    def test_others_may_read_it_as_any_file(self, tmp_path, mask):
        "A temporary file is its owner's alone; this one has what the user's umask says."
        code = "from sparse_sharing.files import *; import sys; save_json(sys.argv[1], {})"
        path = tmp_path / "file.json"
        command = f"umask {mask}; {sys.executable} -c '{code}' {path}"
        subprocess.run(["sh", "-c", command], check=True)
        assert path.stat().st_mode & 0o777 == 0o666 & ~int(mask, 8)

    @pytest.mark.e2e
    def test_a_killed_process_leaves_the_old_file_and_a_hidden_draft(self, tmp_path):
        path = tmp_path / "file.json"
        save_json(path, {"a": 1})
        code = (
            "import os, signal, sys; from sparse_sharing.files import write_whole\n"
            "def die(draft):\n    draft.write_text('hal'); os.kill(os.getpid(), signal.SIGKILL)\n"
            "write_whole(sys.argv[1], die)"
        )
        done = subprocess.run([sys.executable, "-c", code, str(path)])
        assert done.returncode == -9 and load_json(path) == {"a": 1}
        [draft] = set(tmp_path.iterdir()) - {path}
        assert draft.name.startswith(".") and draft.name.endswith(".draft")


def raise_damaged(path):
    load_json(path)


class TestDamaged:
    def test_it_names_the_file_and_the_cure(self, tmp_path):
        error = Damaged(tmp_path / "x.json", "too short")
        assert isinstance(error, ValueError) and error.path == tmp_path / "x.json"
        assert str(error) == (
            f"{tmp_path / 'x.json'} is damaged: too short; delete it, and what made it makes it again"
        )

    def test_it_survives_pickling(self, tmp_path):
        error = pickle.loads(pickle.dumps(Damaged(tmp_path, ValueError("why"))))
        assert error.path == tmp_path and str(error.what) == "why"
        assert str(error) == str(Damaged(tmp_path, "why"))

    @pytest.mark.e2e
    @pytest.mark.parametrize("pool", ["loky", "multiprocessing"])
    def test_it_comes_home_from_another_process(self, tmp_path, pool):
        path = tmp_path / "x.json"
        path.write_text("{")
        with pytest.raises(Damaged) as error:
            if pool == "loky":
                loky = pytest.importorskip("loky", reason="no loky: the extra study")
                with loky.ProcessPoolExecutor(1) as executor:
                    executor.submit(raise_damaged, path).result()
            else:
                with multiprocessing.get_context("spawn").Pool(1) as executor:
                    executor.apply(raise_damaged, (path,))
        assert error.value.path == path and f"{path} is damaged" in str(error.value)


ENTRIES = st.dictionaries(
    st.text(min_size=1, max_size=5), st.lists(st.integers(-3, 3), max_size=4), max_size=4
)


def floats(entries):
    return {k: torch.tensor(v, dtype=torch.float32) for k, v in entries.items()}


class TestDigest:
    @settings(deadline=None)
    @given(ENTRIES, st.randoms())
    def test_the_order_of_entries_does_not_count(self, entries, rng):
        items = list(floats(entries).items())
        rng.shuffle(items)
        assert digest(dict(items), "x") == digest(floats(entries), "x")
        assert len(digest({})) == 64 and int(digest({}), 16)

    @settings(deadline=None, max_examples=300)
    @given(ENTRIES, ENTRIES, st.sampled_from(["", "x"]), st.sampled_from(["", "x", "y"]))
    def test_equal_digests_are_equal_content(self, a, b, first, second):
        "For tensors whose elements are of one type; names and texts cannot run into each other."
        same = a == b and first == second
        assert (digest(floats(a), first) == digest(floats(b), second)) == same

    @settings(deadline=None)
    @given(ENTRIES.filter(lambda e: any(e.values())), st.data())
    def test_each_element_counts(self, entries, data):
        tensors = floats(entries)
        name = data.draw(st.sampled_from([k for k, v in entries.items() if v]))
        place = data.draw(st.integers(0, len(entries[name]) - 1))
        before = digest(tensors)
        tensors[name][place] += 1
        assert digest(tensors) != before

    def test_names_and_texts_do_not_run_into_each_other(self):
        one = torch.tensor([1], dtype=torch.uint8)
        empty = torch.empty(0)
        assert digest({"ab": empty}) != digest({"a": empty, "b": empty})
        assert digest({"a": one}, "x") != digest({"xa": one}, "")
        assert digest({}, "a") != digest({"a": empty})

    def test_shape_and_type_count(self):
        "As in a checkpoint whose matrix was transposed, or whose counts became floats."
        flat = torch.zeros(6)
        assert digest({"a": flat}) != digest({"a": flat.reshape(2, 3)})
        assert digest({"a": flat.reshape(3, 2)}) != digest({"a": flat.reshape(2, 3)})
        assert digest({"a": torch.zeros(1)}) != digest({"a": torch.zeros(1, dtype=torch.int32)})

    def test_it_is_that_of_the_content_however_it_lies(self):
        a = torch.arange(6.0).reshape(2, 3)
        assert digest({"a": a.T}) == digest({"a": a.T.contiguous()}) != digest({"a": a})
        assert digest({"a": a.requires_grad_()}) == digest({"a": a.detach()})
        assert digest({"a": torch.zeros(4)[::2]}) == digest({"a": torch.zeros(2)})


class TestTensors:
    @pytest.fixture
    def path(self, tmp_path):
        save_tensors(tmp_path / "w.safetensors", TENSORS, ABOUT)
        return tmp_path / "w.safetensors"

    def test_all_kinds_come_back(self, path):
        tensors, about = load_tensors(path)
        assert about == load_about(path) == ABOUT and tensors.keys() == TENSORS.keys()
        for name, tensor in TENSORS.items():
            assert tensors[name].dtype == tensor.dtype and tensors[name].shape == tensor.shape
            assert torch.equal(tensors[name], tensor), name

    @settings(deadline=None, max_examples=30)
    @given(
        st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_]),
        st.lists(st.integers(0, 3), max_size=3),
        st.integers(0, 2**32 - 1),
    )
    def test_any_shape_comes_back(self, tmp_path_factory, dtype, shape, seed):
        array = (np.random.default_rng(seed).random(shape) * 9).astype(dtype)
        path = tmp_path_factory.mktemp("any") / "w.safetensors"
        save_tensors(path, {"a": torch.from_numpy(np.array(array))}, {})
        found = load_tensors(path)[0]["a"].numpy()
        assert found.dtype == dtype and found.shape == tuple(shape) and (found == array).all()

    def test_what_shares_memory_or_lies_across_is_written_too(self, tmp_path):
        a = torch.arange(6.0).reshape(2, 3)
        save_tensors(tmp_path / "w", {"a": a, "same": a, "across": a.T, "part": a[:, 1]}, {})
        found = load_tensors(tmp_path / "w")[0]
        assert torch.equal(found["across"], a.T) and torch.equal(found["part"], a[:, 1])

    def test_a_file_cut_anywhere_is_named(self, path):
        whole = path.read_bytes()
        header = 8 + int.from_bytes(whole[:8], "little")
        cuts = {0, 1, 7, 8, 9, header // 2, header - 1, header, header + 1, len(whole) - 1}
        for cut in sorted(cuts | set(range(0, len(whole), 37))):
            path.write_bytes(whole[:cut])
            with pytest.raises(Damaged) as error:
                load_tensors(path)
            assert error.value.path == path, cut
            if cut < header:
                with pytest.raises(Damaged):
                    load_about(path)

    def test_a_changed_byte_anywhere_is_named_or_changes_nothing(self, path):
        "The padding of a header says nothing; every other byte counts."
        whole, found = path.read_bytes(), 0
        header = 8 + int.from_bytes(whole[:8], "little")
        for place in [*range(0, header, 3), *range(header, len(whole))]:
            for bit in (1, 0x80):
                changed = bytearray(whole)
                changed[place] ^= bit
                path.write_bytes(changed)
                try:
                    tensors, about = load_tensors(path)
                except Damaged as error:
                    assert error.path == path
                    found += 1
                    continue
                assert place < header, f"byte {place} of the content"
                assert about == ABOUT and tensors.keys() == TENSORS.keys(), place
                same = [torch.equal(t, TENSORS[k]) for k, t in tensors.items()]
                kinds = [t.dtype == TENSORS[k].dtype for k, t in tensors.items()]
                assert all(same) and all(kinds), f"byte {place} of the header"
        assert found > len(whole) - header

    def test_a_file_of_another_program_is_named(self, tmp_path):
        path = tmp_path / "w.safetensors"
        for header in (None, {"about": "{}"}, {"about": "{}", "sha256": "0"}, {"sha256": "0"}):
            save_file({"a": torch.zeros(2)}, path, header)
            with pytest.raises(Damaged, match="w.safetensors is damaged"):
                load_tensors(path)

    def test_a_changed_text_of_the_header_is_named(self, tmp_path):
        path = tmp_path / "w.safetensors"
        save_tensors(path, {"a": torch.zeros(2)}, {"epoch": 3})
        path.write_bytes(path.read_bytes().replace(b'\\"epoch\\": 3', b'\\"epoch\\": 9'))
        assert load_about(path) == {"epoch": 9}, "which is not checked, since it is for watching"
        with pytest.raises(Damaged, match="checksum"):
            load_tensors(path)

    def test_what_is_not_there_is_not_damaged(self, tmp_path):
        for read in (load_tensors, load_about, load_json):
            with pytest.raises(FileNotFoundError):
                read(tmp_path / "nothing")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
CONTENT = {"task": "ner", "dev": 87.4, "curve": [{"epoch": 1, "loss": 0.25}], "ü": [None, True]}


class TestJson:
    @settings(deadline=None)
    @given(st.dictionaries(st.text(max_size=5).filter(lambda k: k != "sha256"), JSON, max_size=4))
    def test_what_json_can_say_comes_back(self, tmp_path_factory, content):
        path = tmp_path_factory.mktemp("json") / "x.json"
        save_json(path, content)
        assert load_json(path) == json.loads(json.dumps(content))

    def test_the_layout_does_not_count(self, tmp_path):
        path = tmp_path / "x.json"
        save_json(path, CONTENT)
        content = json.loads(path.read_text())
        assert set(content) == set(CONTENT) | {"sha256"} and len(content["sha256"]) == 64
        path.write_text(json.dumps(dict(reversed(content.items())), indent=8, ensure_ascii=False))
        assert load_json(path) == CONTENT

    def test_a_file_cut_anywhere_is_named(self, tmp_path):
        path = tmp_path / "x.json"
        save_json(path, CONTENT)
        whole = path.read_bytes()
        for cut in range(len(whole.rstrip())):
            path.write_bytes(whole[:cut])
            with pytest.raises(Damaged) as error:
                load_json(path)
            assert error.value.path == path

    def test_a_changed_byte_anywhere_is_named_or_changes_nothing(self, tmp_path):
        path = tmp_path / "x.json"
        save_json(path, CONTENT)
        whole = path.read_bytes()
        for place in range(len(whole)):
            for bit in (1, 2, 4, 0x20, 0x80):
                changed = bytearray(whole)
                changed[place] ^= bit
                path.write_bytes(changed)
                try:
                    assert load_json(path) == CONTENT, place
                except Damaged as error:
                    assert error.path == path

    @pytest.mark.parametrize(
        "text",
        ['{"a": 1}', "[]", "null", '"sha256"', '["sha256"]', '{"sha256": null}', "\ufeff{}", "["],
    )
    def test_what_was_never_sealed_is_named(self, tmp_path, text):
        path = tmp_path / "x.json"
        path.write_text(text)
        with pytest.raises(Damaged, match="x.json is damaged"):
            load_json(path)

    @pytest.mark.parametrize(
        "edit", [("87.4", "97.4"), ('"ner"', '"pos"'), ('"epoch": 1', '"epoch": 2'), ("true", "1")]
    )
    def test_an_edited_value_is_found(self, tmp_path, edit):
        path = tmp_path / "x.json"
        save_json(path, CONTENT)
        text = path.read_text()
        assert edit[0] in text
        path.write_text(text.replace(*edit))
        with pytest.raises(Damaged, match="does not match its checksum"):
            load_json(path)

    def test_a_content_that_json_cannot_say_leaves_no_file(self, tmp_path):
        with pytest.raises(TypeError):
            save_json(tmp_path / "x.json", {"a": {1, 2}})
        assert not list(tmp_path.iterdir())


class TestWhatStandsThere:
    "Something else than a file that was written here, in the place of one."

    def test_a_folder_is_named(self, tmp_path):
        for read in (load_json, load_tensors, load_about):
            with pytest.raises(Damaged, match="it is not a file"):
                read(tmp_path)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
    def test_a_pipe_is_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        for read in (load_json, load_tensors, load_about):
            with pytest.raises(Damaged, match="it is not a file"):
                read(tmp_path / "pipe")

    @pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, "[]", "3", '{"sha256": 4}'])
    def test_json_that_is_no_result_is_damaged(self, tmp_path, text):
        (tmp_path / "result.json").write_text(text)
        with pytest.raises(Damaged, match="result.json"):
            load_json(tmp_path / "result.json")

    def test_a_file_of_gigabytes_is_not_read(self, tmp_path):
        with (tmp_path / "result.json").open("wb") as file:
            file.truncate(2**40)  # takes no room on the disk
        with pytest.raises(Damaged, match="1,099,511,627,776 bytes"):
            load_json(tmp_path / "result.json")

    def test_a_sealed_file_that_lacks_a_key_is_damaged(self, tmp_path):
        save_json(tmp_path / "result.json", {"curve": []})
        assert load_json(tmp_path / "result.json", ["curve"]) == {"curve": []}
        with pytest.raises(Damaged, match="it has no files, unit"):
            load_json(tmp_path / "result.json", ["curve", "unit", "files"])


class TestRemove:
    "A file is deleted where it lies, and never through a link."

    @pytest.fixture
    def home(self, tmp_path):
        (tmp_path / "home" / "units").mkdir(parents=True)
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "precious").write_text("not ours")
        return tmp_path / "home"

    def test_a_file_is_gone(self, home):
        (home / "units" / "a").write_text("x")
        assert remove(home / "units" / "a", home) and not (home / "units" / "a").exists()
        assert remove(home / "units" / "a", home), "gone already"

    @pytest.mark.parametrize("way", ["link", "units/link", "link/inner"])
    def test_what_lies_behind_a_link_stays(self, home, way):
        target = home.parent / "elsewhere"
        if way == "link/inner":
            (target / "inner").mkdir()
            (target / "inner" / "precious").write_text("not ours")
            (home / "link").symlink_to(target)
        else:
            (home / way).symlink_to(target)
        assert not remove(home / way / "precious", home)
        assert (target / "precious").read_text() == "not ours"

    def test_a_home_that_is_a_link_itself_is_where_we_were_sent(self, home):
        (home / "units" / "a").write_text("x")
        door = home.parent / "door"
        door.symlink_to(home)
        assert remove(door / "units" / "a", door) and not (home / "units" / "a").exists()

    def test_of_a_link_only_the_link_goes(self, home):
        (home / "units" / "a").symlink_to(home.parent / "elsewhere" / "precious")
        assert remove(home / "units" / "a", home)
        assert (home.parent / "elsewhere" / "precious").exists()

    def test_a_folder_stays(self, home):
        assert not remove(home / "units", home) and (home / "units").is_dir()

    @pytest.mark.parametrize("path", ["../elsewhere/precious", "units/../../elsewhere/precious"])
    def test_no_path_leads_out(self, home, path):
        assert not remove(home / path, home)
        assert (home.parent / "elsewhere" / "precious").exists()

    def test_a_path_from_elsewhere_is_refused(self, home):
        with pytest.raises(ValueError):
            remove(home.parent / "elsewhere" / "precious", home)
        assert (home.parent / "elsewhere" / "precious").exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        ),
    ],
)
def test_a_full_disk_says_what_to_do(tmp_path, error):
    def write(draft):
        raise error

    with pytest.raises(type(error)) as caught:
        write_whole(tmp_path / "file", write)
    assert "the disk is full. Make room, and the same call goes on" in caught.value.__notes__[0]
    assert list(tmp_path.iterdir()) == []
