"""Loss, gradients and state of every class of ood.nn on a device against those on the CPU; a process of its own, since
a device once loaded stays. Called by test_device.py: on_device.py STAND_IN DEVICE"""
import sys
import types

import torch


def use_stand_in(library):
    torch.ops.load_library(library)
    torch.utils.rename_privateuse1_backend("stand_in")
    module = types.ModuleType("torch.stand_in")
    module.current_device, module.device_count, module.is_available = lambda: 0, lambda: 1, lambda: True
    module._is_in_bad_fork, module.manual_seed_all = lambda: False, lambda seed: None
    torch._register_device_module("stand_in", module)


def results(where, case):
    torch.manual_seed(1)
    # Made on the CPU and then moved, as users do, so that what is drawn at the start is the same.
    criterion, last = case.make().train().to(where), torch.nn.Linear(4, 4).to(where)
    x0 = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, -1, -1, 0, 1]).to(where)
    all_of_it = []
    for step in range(3):
        torch.manual_seed(step)
        x = (x0 + step).to(where).requires_grad_()
        loss = case.call(criterion, x, y, last)
        loss.backward()
        all_of_it += [loss.detach(), *(t.grad for t in (x, *criterion.parameters()) if t.grad is not None)]
        criterion.zero_grad()
    return [t.cpu() for t in (*all_of_it, *criterion.buffers())]


if __name__ == "__main__":
    from conftest import CASES
    library, device = sys.argv[1:]
    if device == "stand_in":
        use_stand_in(library)
    for case in CASES:
        here, there = results("cpu", case), results(device, case)
        assert len(here) == len(there), (case.name, len(here), len(there))
        for a, b in zip(here, there):
            torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-4, msg=lambda m: f"{case.name}: {m}")
        print(case.name)
