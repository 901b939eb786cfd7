"The hub's names for saving and loading, on a folder of this machine."

import pytest
import torch
from nets import any_way, built, same
from torch import nn

from sparse_sharing.sharing import HierarchicalSharing, SparseSharing

pytest.importorskip("huggingface_hub", reason="no huggingface_hub: pip install '.[hub]'")

from sparse_sharing.hub import OnHub  # noqa: E402


class Published(OnHub, SparseSharing):
    "A sparse model that can be published."


class Layered(OnHub, HierarchicalSharing):
    "A hierarchical one."


def outputs(model, inputs):
    with torch.no_grad():
        return {task: model.eval()(inputs, task=task) for task in model.tasks}


@pytest.fixture
def published():
    "A model, inputs for it, and what it gives."
    model, inputs = any_way("sparse")
    model = Published(model.encoder, dict(model.heads.items()), dict(model.masks))
    return model, inputs


def test_there_and_back(published, tmp_path):
    model, inputs = published
    model.save_pretrained(tmp_path)
    encoder, tops = built("sparse", seed=3)
    again = Published.from_pretrained(tmp_path, encoder=encoder, heads=tops)
    assert type(again) is Published and same(outputs(again, inputs), outputs(model, inputs))
    again.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.pt")) and not list(tmp_path.glob("*.bin"))


def test_it_is_the_folder_of_save(published, tmp_path):
    model, inputs = published
    model.save_pretrained(tmp_path)
    plain = SparseSharing.load(tmp_path, *built("sparse", seed=3))
    assert same(outputs(plain, inputs), outputs(model, inputs))


def test_arguments_of_the_class_come_from_the_folder(tmp_path):
    model, inputs = any_way("hierarchical")
    model = Layered(model.encoder, dict(model.heads.items()), level={"a": 2, "b": 1})
    model.save_pretrained(tmp_path)
    encoder, tops = built("hierarchical", seed=3)
    again = Layered.from_pretrained(tmp_path, encoder=encoder, heads=tops)
    assert again.level == {"a": 2, "b": 1}
    assert same(outputs(again, inputs), outputs(model, inputs))


def test_an_option_that_nobody_knows(published, tmp_path):
    published[0].save_pretrained(tmp_path)
    encoder, tops = built("sparse", seed=3)
    with pytest.raises(TypeError, match="not colour"):
        Published.from_pretrained(tmp_path, encoder=encoder, heads=tops, colour="red")


def test_modules_that_do_not_fit(published, tmp_path):
    published[0].save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="does not fit what was given"):
        Published.from_pretrained(tmp_path, encoder=nn.Linear(4, 8), heads=built("mlp")[1])
