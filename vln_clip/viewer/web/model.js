// The page's document and what follows from it: geometry of a scan, decisions of a walk, the reference's next place.

const page = JSON.parse(byId("document").textContent);
const LETTERS = ["A", "B"];
const SUCCESS_M = 3;
const CAMERA_HEIGHT_M = 1.5;

/** Neighbors of every viewpoint of a scan, as lists of local indices; worked out once. */
function neighborsOf(scan) {
  if (!scan.neighbors) {
    scan.neighbors = scan.ids.map(() => []);
    for (let i = 0; i < scan.edges.length; i += 2) {
      const [a, b] = [scan.edges[i], scan.edges[i + 1]];
      scan.neighbors[a].push(b);
      scan.neighbors[b].push(a);
    }
  }
  return scan.neighbors;
}

/** Where b lies as seen from a: heading (0 = +y, clockwise), elevation, level distance and difference of height. */
function directionTo(scan, a, b) {
  const [dx, dy, dz] = [scan.x[b] - scan.x[a], scan.y[b] - scan.y[a], scan.z[b] - scan.z[a]];
  const level_m = Math.hypot(dx, dy);
  return { heading: Math.atan2(dx, dy), elevation: Math.atan2(dz, level_m), level_m, rise_m: dz };
}

/** Direction of view v of 36: the three levels look 30° down, level and 30° up; headings in steps of 30°. */
function directionOfView(v) {
  return { heading: (v % 12) * 30 * DEGREE, elevation: (Math.floor(v / 12) - 1) * 30 * DEGREE };
}

/**
 * What was decided at one place of a walk. Walks from files know no probabilities: their candidates are the graph's
 * neighbors. `action` is the position among the candidates, their number for stop, null where the walk was cut off.
 */
function decisionAt(scan, walk, step) {
  const place = walk.viewpoints[step];
  const decision = walk.decisions ? walk.decisions[step] : undefined;
  if (decision) {
    return {
      place, candidates: decision.c, probabilities: decision.p, action: decision.a,
      words: attention(decision.w), views: attention(decision.v), saliency: decision.s ?? null,
      value: decision.value, reward: decision.reward, forced: decision.forced === true,
    };
  }
  const candidates = neighborsOf(scan)[place];
  const next = walk.viewpoints[step + 1];
  const action = next !== undefined ? candidates.indexOf(next) : walk.decisions ? null : candidates.length;
  return {
    place, candidates, probabilities: null, action: action === -1 ? null : action,
    words: null, views: null, saliency: null, value: null, reward: null, forced: false,
  };
}

/** Position in the reference that a walk has reached by `step`, never going back; -1 before it met the reference. */
function progress(path, walk, step) {
  let reached = -1;
  for (let t = 0; t <= step; t += 1) {
    const found = path.indexOf(walk.viewpoints[t], Math.max(reached, 0));
    if (found >= 0) reached = found;
  }
  return reached;
}

/** What the reference does next from where the walk is: a viewpoint, "stop", or null off the reference. */
function referenceNext(episode, walk, step) {
  if (!episode.path) return null;
  const place = walk.viewpoints[step];
  const reached = progress(episode.path, walk, step);
  const at = episode.path[reached] === place ? reached : episode.path.indexOf(place);
  if (at < 0) return null;
  return at + 1 < episode.path.length ? episode.path[at + 1] : "stop";
}

/** Whether, live, nothing has been asked of the agent yet. */
function isWaiting() {
  return Boolean(page.live) && state.episode?.walks[0]?.decisions?.length === 0;
}

/** Places of the longest walk of an episode; at least 1, so that the start is shown where nobody walked. */
function numPlaces(episode) {
  return Math.max(1, ...episode.walks.map((walk) => (walk ? walk.viewpoints.length : 0)));
}

/** Last step of a walk that is not after `step`. */
function stepWithin(walk, step) {
  return Math.min(step, walk.viewpoints.length - 1);
}

/** A metric of an agent's walk; null where the goal is hidden or nobody walked. */
function metric(episode, agent, name) {
  const value = episode.walks[agent]?.metrics?.[name];
  return isNumber(value) ? value : null;
}

/** True, false, or null where the goal is hidden. */
function succeeded(episode, agent) {
  const value = metric(episode, agent, "success_rate");
  return value === null ? null : value > 0.5;
}

function sameWay(episode) {
  const [a, b] = episode.walks;
  return Boolean(a && b) && a.viewpoints.join() === b.viewpoints.join();
}

/** Language tags as browsers know them: "en-US" stays, "en_US" is set right. */
function languageTag(language) {
  return (language || "en").replace("_", "-");
}

/** A viewpoint's id, short enough for a line; the whole id goes into tooltips. */
function shortId(id) {
  return id.length > 12 ? `${id.slice(0, 8)}…` : id;
}
