"""What a body walks while a search jumps from state to state, so that the length of a searched trajectory is honest.

The body visits the expanded viewpoints in order, then goes back to the start and along the chosen walk. It only knows
the edges at viewpoints where it has been: routes lead through those, and may be longer than the graph's shortest ones.
"""

import torch
from torch import Tensor

from vln_clip.envs.navigation import Navigation
from vln_clip.envs.search_states import align_left


class _KnownMap:
    """Shortest routes between the places that B bodies have visited, through those places alone.

    Floyd's algorithm a place at a time: a new one is reached from known neighbors, then shortens other routes.

    Args:
        world: edges and their lengths.
        viewpoint: (B, U) each body's places by number, in the order of their first visit, padded with -1.
    """

    def __init__(self, world: Navigation, viewpoint: Tensor) -> None:
        (B, U), device = viewpoint.shape, viewpoint.device
        self.world, self.viewpoint = world, viewpoint
        self.distance_m = torch.full((B, U, U), torch.inf, dtype=torch.float64, device=device)
        self.hop = torch.zeros(B, U, U, dtype=torch.int64, device=device)  # next place on the way from row to column
        self.distance_m[:, 0, 0] = 0

    def add(self, rows: Tensor, place: Tensor) -> None:
        """Visit a new place (b,) of some bodies (b,): one more than the places they know."""
        n = int(place.max()) + 1
        distance_m, hop = self.distance_m[rows, :n, :n], self.hop[rows, :n, :n]
        index = torch.arange(len(rows), device=rows.device)
        near_m = self._edges_m(rows, place, n)
        to_m, via = (near_m[:, :, None] + distance_m).min(1)  # (b, n): from the new place to each known one
        to_m[index, place] = 0
        back = hop.gather(2, via[:, :, None]).squeeze(2)  # from each known place towards the new one's neighbor
        back = torch.where(via == torch.arange(n, device=rows.device), place[:, None], back)
        hop[index, place], hop[index, :, place] = via, back
        distance_m[index, place] = distance_m[index, :, place] = to_m
        through_m = to_m[:, :, None] + to_m[:, None, :]
        shorter = through_m < distance_m
        self.distance_m[rows, :n, :n] = torch.where(shorter, through_m, distance_m)
        self.hop[rows, :n, :n] = torch.where(shorter, back[:, :, None], hop)

    def _edges_m(self, rows: Tensor, place: Tensor, n: int) -> Tensor:
        """Return the lengths of edges from new places to those known before, (b, n); inf where there is none."""
        known = self.viewpoint[rows, :n]
        here = self.viewpoint[rows, place][:, None].expand_as(known)
        beside = (self.world.neighbor[here[:, 0]][:, :, None] == known[:, None]).any(1)
        beside &= torch.arange(n, device=rows.device) < place[:, None]
        length_m = self.world.distance_m(here.flatten(), known.clamp(min=0).flatten()).view_as(known)
        return length_m.masked_fill(~beside, torch.inf)


def exploration(world: Navigation, expanded: Tensor) -> Tensor:
    """Return the walks through expanded viewpoints and back to the start.

    Args:
        world: edges and their lengths.
        expanded: (B, E) int64, the start first, padded with -1; each but the first lies beside an earlier one or is
            one, as a search expands them.

    Returns:
        (B, W) int64, from the start to the start, padded with -1; a single entry where nothing else was expanded.
    """
    B, E = expanded.shape
    same = expanded[:, :, None] == expanded[:, None]  # (B, E, E)
    first = same.to(torch.uint8).argmax(2)
    is_new = (first == torch.arange(E, device=expanded.device)) & (expanded >= 0)
    place = (is_new.cumsum(1) - 1).gather(1, first)  # (B, E), counted by first visits
    viewpoint = align_left(expanded.masked_fill(~is_new, -1))
    known, rows = _KnownMap(world, viewpoint), torch.arange(B, device=expanded.device)
    at = torch.zeros_like(rows)
    visited = [expanded[:, 0]]
    for e in range(1, E + 1):
        if e < E:
            target = torch.where(expanded[:, e] >= 0, place[:, e], at)
            new = is_new[:, e].nonzero().squeeze(1)
            if len(new):
                known.add(new, target[new])
        else:
            target = torch.zeros_like(at)
        while bool((at != target).any()):
            moving = at != target
            at = torch.where(moving, known.hop[rows, at, target], at)
            visited.append(viewpoint[rows, at].masked_fill(~moving, -1))
    return align_left(torch.stack(visited, 1))


def walk_through(world: Navigation, view: Tensor, viewpoint: Tensor) -> tuple[Tensor, Tensor]:
    """Walk given ways and look along every move, as the simulator does.

    Args:
        world: where to walk.
        view: (B,) where each body looks at first.
        viewpoint: (B, T) int64, each entry a neighbor of the one before, padded at the end with -1.

    Returns:
        view (B, T) int64, padded with -1, and simulator actions (B,) int64: tilts, turns and moves.
    """
    here, views, num_actions = viewpoint[:, 0], [view], torch.zeros_like(view)
    for t in range(1, viewpoint.shape[1]):
        there = torch.where(viewpoint[:, t] >= 0, viewpoint[:, t], here)
        action = world.towards(here, there)
        num_actions += world.num_actions(view, here, action)
        here, view = world.step(here, view, action)
        views.append(view)
    return torch.stack(views, 1).masked_fill(viewpoint < 0, -1), num_actions
