// What the map is made of, in pixels, from the ground up. Only the floor shown is drawn full; others are hinted.

/** Straight pieces of a way: those on the floor, and those that leave it or lie elsewhere. */
function piecesOf(map, scan, places) {
  const [here, elsewhere] = [[], []];
  for (let i = 0; i + 1 < places.length; i += 1) {
    const [a, b] = [map.at(places[i]), map.at(places[i + 1])];
    const onFloor = scan.floor[places[i]] === map.floor && scan.floor[places[i + 1]] === map.floor;
    (onFloor ? here : elsewhere).push(`M${a[0].toFixed(1)},${a[1].toFixed(1)}L${b[0].toFixed(1)},${b[1].toFixed(1)}`);
  }
  return { here: here.join(""), elsewhere: elsewhere.join("") };
}

function drawGraph(map, scan) {
  const edges = [];
  for (let i = 0; i < scan.edges.length; i += 2) {
    const [a, b] = [scan.edges[i], scan.edges[i + 1]];
    if (scan.floor[a] !== map.floor && scan.floor[b] !== map.floor) continue;
    const [from, to] = [map.at(a), map.at(b)];
    edges.push(`M${from[0].toFixed(1)},${from[1].toFixed(1)}L${to[0].toFixed(1)},${to[1].toFixed(1)}`);
  }
  const dots = scan.ids.map((_, i) => i).filter((i) => scan.floor[i] === map.floor)
    .map((i) => `M${map.at(i).map((v) => v.toFixed(1)).join(",")}h0`); // a round cap makes the dot
  return [svg("path", { class: "map-edges", d: edges.join("") }), svg("path", { class: "map-dots", d: dots.join("") })];
}

/** Start, goal and the circle of success, of the reference. */
function drawGoal(map, scan) {
  const { path } = state.episode;
  if (!path) return [];
  const goal = path[path.length - 1];
  const [x, y] = map.at(goal);
  const faint = scan.floor[goal] === map.floor ? "" : " is-elsewhere";
  return [
    svg("circle", { class: `map-success${faint}`, cx: x, cy: y, r: SUCCESS_M * map.view.scale }),
    svg("path", { class: `map-goal${faint}`, transform: `translate(${x} ${y})`, d: starOutline(9) }, tip("goal")),
  ];
}

function starOutline(radius) {
  const corners = Array.from({ length: 10 }, (_, i) => {
    const r = i % 2 ? radius * 0.45 : radius;
    return `${(Math.sin((i * Math.PI) / 5) * r).toFixed(1)},${(-Math.cos((i * Math.PI) / 5) * r).toFixed(1)}`;
  });
  return `M${corners.join("L")}Z`;
}

function drawReference(map, scan) {
  if (!state.episode.path) return [];
  const pieces = piecesOf(map, scan, state.episode.path);
  return [svg("path", { class: "map-reference is-elsewhere", d: pieces.elsewhere }), svg("path", { class: "map-reference", d: pieces.here })];
}

/** A walk: the way so far strong, the way to come lighter, its places numbered. */
function drawWalk(map, scan, agent) {
  const walk = walkOf(agent);
  if (!walk) return [];
  const step = stepWithin(walk, state.step);
  const group = svg("g", { class: `map-walk agent-${agent}${agent === walker(state.focus) ? " is-focus" : ""}` });
  const [past, future] = [piecesOf(map, scan, walk.viewpoints.slice(0, step + 1)), piecesOf(map, scan, walk.viewpoints.slice(step))];
  group.append(
    svg("path", { class: "map-way is-elsewhere", d: past.elsewhere + future.elsewhere }),
    svg("path", { class: "map-way is-future", d: future.here }),
    svg("path", { class: "map-way-edge", d: past.here }),
    svg("path", { class: "map-way", d: past.here }));
  const visits = new Map();
  walk.viewpoints.forEach((place, t) => visits.set(place, [...(visits.get(place) ?? []), t + 1]));
  for (const [place, times] of visits) {
    if (scan.floor[place] !== map.floor) continue;
    const [x, y] = map.at(place);
    const label = times.length > 3 ? `${times[0]}…${times.at(-1)}` : times.join(",");
    const offset = agent === 0 ? -9 : 16;
    group.append(
      svg("circle", { class: "map-stop", cx: x, cy: y, r: 4 }, tip(scan.ids[place])),
      svg("text", { class: "map-step", x: x + 6, y: y + offset }, label));
  }
  return [group];
}

/** Where an agent is and looks: a wedge as wide as a view. */
function drawAgent(map, scan, agent) {
  const walk = walkOf(agent);
  if (!walk) return [];
  const step = stepWithin(walk, state.step);
  const place = walk.viewpoints[step];
  const [x, y] = map.at(place);
  const heading = panes[agent]?.root.isConnected ? panes[agent].camera.heading : walk.heading[step];
  const reach = 34;
  const tipOf = (turn) => `${(Math.sin(turn) * reach).toFixed(1)},${(-Math.cos(turn) * reach).toFixed(1)}`;
  const faint = scan.floor[place] === map.floor ? "" : " is-elsewhere";
  return [svg("g", { class: `map-agent agent-${agent}${faint}`, transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})` },
    svg("path", { class: "map-wedge", d: `M0,0L${tipOf(heading - 30 * DEGREE)}A${reach},${reach} 0 0 1 ${tipOf(heading + 30 * DEGREE)}Z` }),
    svg("circle", { class: "map-here", r: 7 }),
    svg("text", { class: "map-letter", y: 3.5 }, LETTERS[agent]))];
}

function drawStart(map, scan) {
  const place = state.episode.path?.[0] ?? state.episode.walks.find((walk) => walk)?.viewpoints[0];
  if (place === undefined) return [];
  const [x, y] = map.at(place);
  const faint = scan.floor[place] === map.floor ? "" : " is-elsewhere";
  return [svg("rect", { class: `map-start${faint}`, x: x - 7, y: y - 7, width: 14, height: 14, rx: 2 }, tip("start"))];
}

/** A scale bar of a round length near 90 pixels. */
function drawScale(map, size) {
  const length_m = [0.5, 1, 2, 5, 10, 20, 50].find((metres) => metres * map.view.scale > 55) ?? 50;
  const [x, y] = [12, size.height - 12];
  const end = x + length_m * map.view.scale;
  return [svg("g", { class: "map-scale" },
    svg("path", { d: `M${x},${y - 4}V${y}H${end}V${y - 4}` }),
    svg("text", { x: end + 6, y }, `${length_m} m`))];
}

/** North is up: an arrow in the corner says so. */
function drawNorth(size) {
  return [svg("g", { class: "map-north", transform: `translate(${size.width - 16} ${size.height - 14})` }, tip("north, heading 0°"),
    svg("path", { d: "M0,4V-16M-4,-10L0,-17L4,-10" }), svg("text", { x: -16, y: 1 }, "N"))];
}

/** All of the map. */
function drawMap(map, scan, size) {
  const order = [0, 1].sort((a, b) => (a === state.focus) - (b === state.focus)); // the one in focus on top
  return [
    ...drawGoal(map, scan).slice(0, 1), ...drawGraph(map, scan), ...drawReference(map, scan), ...drawStart(map, scan),
    ...order.flatMap((agent) => drawWalk(map, scan, agent)), ...drawGoal(map, scan).slice(1),
    ...order.flatMap((agent) => drawAgent(map, scan, agent)), ...drawScale(map, size), ...drawNorth(size),
  ];
}
