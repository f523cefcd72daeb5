"""A reward for following the annotated path: nDTW of what has been walked so far (Ilharco et al. 2019)."""

import torch
from torch import Tensor

from vln_clip.envs.navigation import Navigation
from vln_clip.records import SUCCESS_RADIUS_M
from vln_clip.rollout import Rollout

ROUNDING = 1e-9  # of nDTW


def fidelity_reward(world: Navigation, record: Rollout, guide: Tensor) -> Tensor:
    """Reward moves by whether they raise nDTW, and stops by the nDTW reached.

    A move earns ± ``world.progress_reward``, as EnvDrop's moves towards or away from the goal do; stopping within 3 m
    of the goal earns ``world.stop_reward`` times nDTW, elsewhere its negative.

    Args:
        world: gives distances and the size of rewards.
        record: a rollout with distances to the goal.
        guide: (B, R) annotated paths, padded at the end with -1.

    Returns:
        (T, B) float32; entries after an episode's end mean nothing.
    """
    assert record.distance_m is not None, "rewards need a rollout with returns"
    ndtw = prefix_ndtw(world, record.viewpoint, guide)  # (T + 1, B)
    before, after = ndtw[:-1], ndtw[1:]
    reached = record.distance_m[1:] < SUCCESS_RADIUS_M
    stop = world.stop_reward * torch.where(reached, before, -1.0)
    change = after - before
    move = world.progress_reward * change.sign() * (change.abs() > ROUNDING)
    return torch.where(record.stopped, stop, move).float()


def prefix_ndtw(world: Navigation, viewpoint: Tensor, guide: Tensor) -> Tensor:
    """Return nDTW of every beginning of each walk.

    Args:
        world: gives distances.
        viewpoint: (B, T) walks, padded at the end with -1; an agent's moves, so no viewpoint comes twice in a row.
        guide: (B, R) annotated paths, padded at the end with -1.

    Returns:
        (T, B) float64; entry t belongs to the first t + 1 viewpoints.
    """
    (B, T), R = viewpoint.shape, guide.shape[1]
    num_reference = (guide >= 0).sum(1)  # (B,)
    near = viewpoint.clamp(min=0)[:, :, None].expand(B, T, R), guide.clamp(min=0)[:, None].expand(B, T, R)
    distance_m = world.distance_m(near[0].flatten(), near[1].flatten()).view(B, T, R).permute(1, 2, 0)  # (T, R, B)
    row = torch.full((R + 1, B), torch.inf, dtype=torch.float64, device=viewpoint.device)
    row[0] = 0.0
    last = []
    for t in range(T):
        # cell r = distance r + min(best r, cell r - 1): unrolled, the sum of distances up to r plus the least of
        # what it costs to enter this row anywhere before.
        best, total_m = torch.minimum(row[1:], row[:-1]), distance_m[t].cumsum(0)
        row = row.new_full((R + 1, B), torch.inf)
        row[1:] = total_m + (best - (total_m - distance_m[t])).cummin(0).values
        last.append(row.gather(0, num_reference[None])[0])
    return torch.exp(-torch.stack(last) / (SUCCESS_RADIUS_M * num_reference))
