"Two processes train one model: one task per step on both, and different ones are refused."

import os
import socket

import pytest
import torch
from nets import ROWS, hard, mlp, same, sparse, toy_task
from torch.nn.parallel import DistributedDataParallel

from sparse_sharing.optim import SubnetSGD, subnet_step
from sparse_sharing.training import fit

pytestmark = pytest.mark.e2e  # each test starts two processes
OPTIMIZERS = {"SubnetSGD": SubnetSGD, "Adam": lambda m: torch.optim.Adam(m.parameters(), 0.01)}


def trained(model, whole, make, rows, tasks="abba"):
    "The parameters after a step for each of these tasks."
    optimizer = make(whole)
    for task in tasks:
        optimizer.zero_grad()
        whole(rows, task=task).square().mean().backward()
        subnet_step(optimizer, whole, task)
    return {n: p.detach().clone() for n, p in model.named_parameters()}


def work(rank, port, folder, scenario):
    "What a process does; what it finds goes into a file."
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    try:
        model, _ = sparse(mlp)
        whole = DistributedDataParallel(model.eval(), find_unused_parameters=True)
        rows = ROWS[8 * rank : 8 * rank + 8]
        if scenario == "different":
            with pytest.raises(RuntimeError, match="another task"):
                trained(model, whole, SubnetSGD, rows, "ab"[rank])
            before = sparse(mlp)[0].state_dict()
            found = {"same": torch.tensor(same(dict(model.state_dict()), dict(before)))}
        elif scenario == "inner":  # the optimiser was given the model without its wrapper
            with pytest.raises(RuntimeError, match="another task"):
                optimizer = SubnetSGD(model)
                whole(rows, task="ab"[rank]).sum().backward()
                optimizer.step("ab"[rank])
            found = {}
        elif scenario == "fit":
            tasks = [toy_task("a"), toy_task("b", 16)]
            file = os.path.join(folder, "run.safetensors")
            fit(whole, tasks, 2, checkpoint=file, log=None)
            found = {n: p.detach().clone() for n, p in model.named_parameters()}
        else:
            found = trained(model, whole, OPTIMIZERS[scenario], rows)
        torch.save(found, os.path.join(folder, f"{rank}.pt"))
    finally:
        torch.distributed.destroy_process_group()


def run(folder, scenario):
    "What both processes found."
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(work, (port, str(folder), scenario), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_task_per_step_is_one_process_with_both_halves(name, tmp_path):
    one, other = run(tmp_path, name)
    assert same(one, other)
    model, _ = sparse(mlp)
    alone = trained(model, model.eval(), OPTIMIZERS[name], ROWS[:16])
    assert all(torch.allclose(alone[n], p, atol=1e-5) for n, p in one.items())
    start = dict(sparse(mlp)[0].named_parameters())
    assert not all(torch.equal(start[n], p) for n, p in one.items())


def test_different_tasks_are_refused_before_anything_moves(tmp_path):
    assert all(bool(found["same"]) for found in run(tmp_path, "different"))


def test_also_if_the_optimiser_does_not_see_the_wrapper(tmp_path):
    run(tmp_path, "inner")


def test_fit_draws_the_same_tasks_and_writes_one_file(tmp_path):
    one, other = run(tmp_path, "fit")
    assert same(one, other)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.pt", "1.pt", "run.safetensors"]


def test_data_parallel_in_threads_is_refused():
    model, _ = hard(mlp)
    with pytest.raises(TypeError, match="DistributedDataParallel"):
        model._replicate_for_data_parallel()  # what nn.DataParallel calls, where there are two devices
