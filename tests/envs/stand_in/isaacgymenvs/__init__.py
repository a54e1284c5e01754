"""Stands in for IsaacGymEnvs: the same `make`, the same configuration folder, tasks that one can follow by hand."""

from omegaconf import OmegaConf

__version__ = "1.5.stand-in"
OmegaConf.register_new_resolver("eq", lambda a, b: a.lower() == b.lower())
OmegaConf.register_new_resolver("resolve_default", lambda default, given: default if given == "" else given)


def make(
    seed,
    task,
    num_envs,
    sim_device,
    rl_device,
    graphics_device_id=-1,
    headless=False,
    multi_gpu=False,
    virtual_screen_capture=False,
    force_render=True,
    cfg=None,
):
    from isaacgymenvs.tasks import TASKS

    assert headless
    assert not force_render
    assert not multi_gpu
    assert graphics_device_id == -1
    config = OmegaConf.to_container(cfg.task, resolve=True)
    assert config["env"]["numEnvs"] == num_envs
    assert config["sim"]["use_gpu_pipeline"] == sim_device.startswith("cuda")
    return TASKS[task](config, rl_device)
