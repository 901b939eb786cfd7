"A model in a folder: all five ways of sharing, bit-equal in another process, and what is refused."

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from helpers import ROOT
from nets import ENCODERS, WAYS, Head, any_way, built, copied, heads, masks_of, mlp, same, sparse
from torch import nn

from sparse_sharing.files import Damaged, load_json, save_json
from sparse_sharing.masks import Mask
from sparse_sharing.optim import SubnetSGD
from sparse_sharing.sharing import HardSharing, Sharing, SingleTask, SoftSharing, SparseSharing

each_way = pytest.mark.parametrize("way", WAYS)
each_encoder = pytest.mark.parametrize("make", ENCODERS.values(), ids=ENCODERS)


def outputs(model, inputs):
    "What each task gives in evaluation."
    with torch.no_grad():
        return {task: model.eval()(inputs, task=task) for task in model.tasks}


def trained(model, inputs):
    "The model after a step of each task, so that nothing is as it was built."
    optimizer = SubnetSGD(model.train())
    for task in model.tasks:
        optimizer.zero_grad()
        model(inputs, task=task).square().mean().backward()
        optimizer.step(task)
    optimizer.release()
    return model


def files(folder):
    return {p.name: p.read_bytes() for p in Path(folder).iterdir()}


@pytest.fixture
def saved(tmp_path):
    "A sparse model with a batch norm, inputs for it, and its folder."
    model, inputs = any_way("sparse")
    trained(model, inputs).save(tmp_path / "model")
    return model, inputs, tmp_path / "model"


class TestThereAndBack:
    @each_way
    def test_every_way(self, way, tmp_path):
        model, inputs = any_way(way)
        trained(model, inputs).save(tmp_path)
        fresh, _ = any_way(way, seed=1)
        assert not same(outputs(fresh, inputs), outputs(model, inputs))
        encoder, tops = built(way, seed=2)
        again = type(model).load(tmp_path, encoder=encoder, heads=tops)
        assert type(again) is type(model) and again.tasks == model.tasks
        assert same(copied(again), copied(model)) and again.masks == model.masks
        assert same(outputs(again, inputs), outputs(model, inputs))
        assert not again.training and again.count_parameters() == model.count_parameters()

    @each_way
    def test_the_base_class_reads_every_way(self, way, tmp_path):
        model, inputs = any_way(way)
        model.save(tmp_path)
        encoder, tops = built(way, seed=2)
        again = Sharing.load(tmp_path, encoder, tops)
        assert type(again) is type(model) and same(outputs(again, inputs), outputs(model, inputs))

    @each_encoder
    def test_every_encoder(self, make, tmp_path):
        model, inputs = sparse(make)
        model.save(tmp_path)
        torch.manual_seed(3)
        again = SparseSharing.load(tmp_path, make()[0], heads())
        assert same(outputs(again, inputs), outputs(model, inputs))

    @pytest.mark.e2e
    def test_another_process(self, saved):
        "It builds the modules anew, and finds the same bits."
        model, inputs, folder = saved
        torch.save({"inputs": inputs, "outputs": outputs(model, inputs)}, folder / "seen.pt")
        program = """
            import sys, torch
            from nets import built
            from sparse_sharing.sharing import SparseSharing
            folder = sys.argv[1]
            encoder, heads = built("sparse", seed=9)
            model = SparseSharing.load(folder, encoder=encoder, heads=heads)
            seen = torch.load(f"{folder}/seen.pt", weights_only=True)
            with torch.no_grad():
                for task, wanted in seen["outputs"].items():
                    assert torch.equal(model(seen["inputs"], task=task), wanted), task
            print("the same", *model.tasks)
        """
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), folder],
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.stdout.split() == ["the", "same", "a", "b"], done.stderr

    def test_rows_that_wait_for_their_updates_are_saved_up_to_date(self, tmp_path):
        model = HardSharing(nn.Embedding(2, 1, sparse=True), {"a": nn.Identity()})
        optimizer = SubnetSGD(model, lr=1, momentum=0.5)
        for row in (0, 1, 1):
            optimizer.zero_grad()
            model(torch.tensor([row]), task="a").sum().backward()
            optimizer.step("a")
        waiting = model.encoder.weight.detach().clone()
        model.save(tmp_path)
        again = HardSharing.load(tmp_path, nn.Embedding(2, 1), {"a": nn.Identity()})
        assert not torch.equal(again.encoder.weight, waiting)
        assert again.encoder.weight[0] == waiting[0] - 0.5 - 0.25, "two steps without a gradient"

    def test_half_precision_comes_back_as_such(self, tmp_path):
        model, inputs = sparse(mlp)
        model.to(torch.bfloat16).save(tmp_path)
        encoder, tops = built("mlp", seed=2)
        with pytest.raises(ValueError, match="'encoder.0.bias' is torch.bfloat16"):
            SparseSharing.load(tmp_path, encoder, tops)
        encoder, tops = built("mlp", seed=2)
        tops = {t: head.to(torch.bfloat16) for t, head in tops.items()}
        again = SparseSharing.load(tmp_path, encoder.to(torch.bfloat16), tops)
        small = inputs.to(torch.bfloat16)
        assert same(outputs(again, small), outputs(model, small))

    def test_what_a_user_derives_is_of_its_parents_kind(self, tmp_path):
        class Mine(SparseSharing):
            "With something added."

        model, inputs = sparse(mlp)
        mine = Mine(model.encoder, heads(), model.masks)
        mine.save(tmp_path)
        assert load_json(tmp_path / "model.json")["kind"] == "SparseSharing"
        for kind in (Mine, SparseSharing, HardSharing):
            again = kind.load(tmp_path, *built("mlp", seed=2))
            assert type(again) is (Mine if kind is Mine else SparseSharing)
            assert same(outputs(again, inputs), outputs(mine, inputs))

    def test_a_tied_weight_comes_back_tied(self, tmp_path):
        def tied():
            net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Flatten())
            net[2].weight = net[0].weight
            return net

        model = SparseSharing(
            tied(), {"a": nn.Identity()}, {"a": Mask.random(tied(), 0.5, torch.Generator())}
        )
        model.save(tmp_path)
        again = SparseSharing.load(tmp_path, tied(), {"a": nn.Identity()})
        x = torch.randn(3, 4)
        assert same(outputs(again, x), outputs(model, x))
        assert again.encoder[2].weight is again.encoder[0].weight

    def test_a_model_can_be_trained_on(self, saved):
        model, inputs, folder = saved
        again = SparseSharing.load(folder, *built("sparse", seed=2))
        assert same(copied(trained(again, inputs)), copied(trained(model, inputs)))


class TestTheFolder:
    def test_masks_take_a_bit_a_weight(self, tmp_path):
        net = nn.Linear(1000, 1000)
        model = SparseSharing(
            net, {"a": nn.Identity()}, {"a": Mask.random(net, 0.5, torch.Generator())}
        )
        model.save(tmp_path)
        sizes = {p.name.partition("-")[0]: p.stat().st_size for p in tmp_path.iterdir()}
        assert 125_000 <= sizes["mask"] < 126_000
        assert 4_004_000 <= sizes["weights"] < 4_006_000
        assert len(sizes) == 3

    def test_one_model_is_one_folder_of_bytes(self, saved, tmp_path):
        model, _, folder = saved
        model.save(tmp_path / "other")
        assert files(folder).keys() == files(tmp_path / "other").keys()
        for name, content in files(folder).items():
            if not name.startswith("weights"):  # safetensors orders its header as it likes
                assert files(tmp_path / "other")[name] == content

    def test_nothing_of_the_model_before_remains(self, saved):
        model, inputs, folder = saved
        (folder / "README.md").write_text("mine")
        before = set(files(folder))
        trained(model, inputs).save(folder)
        after = set(files(folder))
        assert len(after) == len(before) and len(before - after) == 1
        assert "README.md" in after
        again = SparseSharing.load(folder, *built("sparse", seed=2))
        assert same(copied(again), copied(model))

    @pytest.mark.parametrize("write", range(4))
    def test_a_save_that_fails_leaves_the_model_before(self, saved, write, monkeypatch):
        "The disk is full at the first, second, third, fourth file."
        model, inputs, folder = saved
        wanted = outputs(model, inputs)
        real, calls = os.replace, []

        def full(source, target):
            calls.append(target)
            if len(calls) > write:
                raise OSError("no space left")
            real(source, target)

        trained(model, inputs)
        model.masks = {t: ~m for t, m in model.masks.items()}  # so that every file is a new one
        monkeypatch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="no space left"):
            model.save(folder)
        monkeypatch.undo()
        again = SparseSharing.load(folder, *built("sparse", seed=2))
        assert same(outputs(again, inputs), wanted)

    def test_nothing_is_pickled(self, saved, monkeypatch):
        import pickle

        def never(*args, **kwargs):
            raise AssertionError("unpickled")

        model, inputs, folder = saved
        for name in ("load", "loads", "Unpickler"):
            monkeypatch.setattr(pickle, name, never)
        monkeypatch.setattr(torch, "load", never)
        SparseSharing.load(folder, *built("sparse", seed=2))


class TestRefused:
    def refusal(self, folder, encoder=None, tops=None, kind=SparseSharing, error=ValueError):
        own = built("sparse", seed=2)
        with pytest.raises(error) as caught:
            kind.load(folder, encoder or own[0], tops or own[1])
        assert str(folder) in str(caught.value)
        return str(caught.value)

    def test_a_folder_without_a_model(self, tmp_path):
        assert "holds no model: there is no model.json" in self.refusal(tmp_path)
        assert "holds no model" in self.refusal(tmp_path / "nowhere")

    def test_a_model_json_of_something_else(self, tmp_path):
        (tmp_path / "model.json").write_text('{"model": "tree"}')
        self.refusal(tmp_path, error=Damaged)
        save_json(tmp_path / "model.json", {"model": "tree"})
        assert "is of the format None" in self.refusal(tmp_path)
        before = files(tmp_path)
        with pytest.raises(ValueError, match="format None"):
            sparse(mlp)[0].save(tmp_path)
        assert files(tmp_path) == before, "nothing of somebody else is written over"

    def test_a_later_format(self, saved):
        about = load_json(saved[2] / "model.json")
        save_json(saved[2] / "model.json", about | {"format": "sparse_sharing.model.2"})
        assert "'sparse_sharing.model.2', and this release reads" in self.refusal(saved[2])

    @pytest.mark.parametrize("sum_", ["../../etc/passwd", "0" * 63, 7, None])
    def test_a_file_name_that_leads_elsewhere(self, saved, sum_):
        about = load_json(saved[2] / "model.json")
        save_json(saved[2] / "model.json", about | {"weights": sum_})
        assert "something else than checksums" in self.refusal(saved[2])

    def test_another_kind(self, saved):
        assert "holds a SparseSharing, not a SoftSharing" in self.refusal(
            saved[2], kind=SoftSharing
        )
        assert "holds a SparseSharing, not a SingleTask" in self.refusal(saved[2], kind=SingleTask)

    def test_other_tasks(self, saved):
        said = self.refusal(saved[2], tops={"a": Head(), "c": Head()})
        assert "['a', 'b'], heads are for ['a', 'c']" in said

    def test_another_encoder_is_named_by_its_first_difference(self, saved):
        model, inputs, folder = saved
        encoder, tops = built("sparse", seed=2)
        encoder.extra = nn.Linear(2, 2)
        first = copied(encoder)
        assert "'encoder.extra.bias'" in self.refusal(folder, encoder)
        assert same(copied(encoder), first), "nothing was written into it"
        del encoder.extra
        tops["a"].linear = nn.Linear(8, 2, bias=False)
        assert "holds 'heads.a.linear.bias', which" in self.refusal(folder, encoder, tops)
        narrow = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 8))
        self.refusal(folder, narrow)

    def test_an_encoder_without_numbers(self, saved):
        encoder, tops = built("sparse", seed=2)
        assert "'encoder.stem.0.weight' of what was given is on the meta device" in self.refusal(
            saved[2], encoder.to("meta"), tops
        )

    def test_weights_that_are_tied_here_only(self, tmp_path):
        def net():
            return nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))

        HardSharing(net(), {"a": nn.Identity()}).save(tmp_path)
        tied = net()
        tied[2].weight = tied[0].weight
        with pytest.raises(ValueError, match="'encoder.0.weight' is tied to another"):
            HardSharing.load(tmp_path, tied, {"a": nn.Identity()})

    def test_weights_that_were_tied_and_are_not_here(self, tmp_path):
        def net(tied):
            made = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
            if tied:
                made[2].weight = made[0].weight
            return made

        heads = {"a": nn.Identity()}
        HardSharing(net(True), heads).save(tmp_path)
        with pytest.raises(
            ValueError, match="saved with these parameters tied: .*encoder.2.weight"
        ):
            HardSharing.load(tmp_path, net(False), heads)
        again = HardSharing.load(tmp_path, net(True), heads)
        assert again.encoder[2].weight is again.encoder[0].weight
        about = load_json(tmp_path / "model.json")
        del about["ties"]  # as older releases wrote it
        save_json(tmp_path / "model.json", about)
        HardSharing.load(tmp_path, net(False), heads)

    @pytest.mark.parametrize("kind", ["model", "weights", "mask"])
    def test_a_byte_that_changed(self, saved, kind):
        for path in sorted(saved[2].glob(f"{kind}*")):
            whole = path.read_bytes()
            for at in (len(whole) // 2, len(whole) - 3):
                path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
                assert path.name in self.refusal(saved[2])
            path.write_bytes(whole[: len(whole) // 2])
            assert path.name in self.refusal(saved[2])
            path.write_bytes(whole)
        SparseSharing.load(saved[2], *built("sparse", seed=2))

    @pytest.mark.parametrize("kind", ["weights", "mask"])
    def test_a_file_that_is_gone(self, saved, kind):
        path = next(saved[2].glob(f"{kind}*"))
        path.unlink()
        assert path.name in self.refusal(saved[2], error=Damaged)

    def test_a_sound_file_of_another_model(self, saved, tmp_path):
        other, _ = any_way("sparse", seed=5)
        other.save(tmp_path / "other")
        for kind in ("weights", "mask"):
            path = next(saved[2].glob(f"{kind}*"))
            whole = path.read_bytes()
            path.write_bytes(next((tmp_path / "other").glob(f"{kind}*")).read_bytes())
            assert "speaks of" in self.refusal(saved[2], error=Damaged)
            path.write_bytes(whole)

    def test_a_state_that_is_no_tensor(self, tmp_path):
        class Odd(nn.Linear):
            def get_extra_state(self):
                return {"version": 3}

        model = HardSharing(Odd(2, 2), {"a": nn.Identity()})
        with pytest.raises(TypeError, match="'encoder._extra_state', which is a dict"):
            model.save(tmp_path)
        assert not files(tmp_path)


def test_the_json_can_be_read_by_a_person(saved):
    about = json.loads((saved[2] / "model.json").read_text())
    assert about["kind"] == "SparseSharing" and about["tasks"] == ["a", "b"]
    assert set(about["masks"]) == {"a", "b"} and about["protected"] == {}


def test_the_masks_of_nets(tmp_path):
    "Two tasks with one mask have one file for it."
    net = mlp()[0]
    mask = masks_of(net)["a"]
    SparseSharing(net, heads(), {"a": mask, "b": mask}).save(tmp_path)
    assert len(list(tmp_path.glob("mask-*"))) == 1
    assert SparseSharing.load(tmp_path, mlp()[0], heads()).masks == {"a": mask, "b": mask}
