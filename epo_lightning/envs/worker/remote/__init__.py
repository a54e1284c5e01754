"""The other side of `WorkerEnv`: a simulator in its own interpreter, reached through shared memory.

Shape legend: N environments, O observation entries, A action entries.

`WorkerEnv` runs this folder by its path with the interpreter that the user names. It needs Python 3.8 or newer, numpy
and the simulator, and imports nothing of epo_lightning. A factory (`FACTORIES`, or the user's own `module:callable`)
makes an adapter; `serve` answers the learner's messages with it.

An adapter has
    obs_dim, act_dim       O and A (of a discrete task: the number of actions)
    reset()                -> (N, O) first observations of N new episodes
    step(actions)          -> (obs, reward, terminated, truncated, extras), like `StepResult`; extras is a dict that may
                           hold final_obs (N, O), successes (N,) and log, a dict from names to numbers or arrays
and may have
    num_envs               N as the simulator sees it; refused when it is not what was asked for
    name, discrete, max_episode_steps, step_seconds   see `EnvSpec`
    versions               dict of the simulator's versions, for messages
    groups                 list of (name, length or [height, width, channels], privileged) of the parts of an
                           observation, which may then also be a dict from these names to arrays
    state(), load_state(state)   everything the future depends on, as nested dicts and lists of arrays, numbers, strings
                           and bytes: running episodes can then be resumed to the bit
    reset_late(over)       like reset(); of the episodes' time limits the shares `over`, (N,) float32, are over
    curriculum(), set_curriculum(values, hold)   see `VectorEnv`; without `hold` the difficulty goes on changing
    close()
Arrays may be numpy's, torch's on any device, or anything with `.detach().cpu().numpy()`. `actions` are the learner's
memory, (N, A) float32 or (N,) int64: valid until `step` returns.
"""
