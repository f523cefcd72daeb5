// Small charts over the steps, one above the other: P(stop), value, reward, distance to the goal. A click goes to the step.

const SERIES = [
  { name: "P(stop)", of: (decision) => decision.probabilities?.at(-1) ?? null, low: 0, high: 1, format: percent },
  { name: "value", of: (decision) => decision.value ?? null, format: (value) => signed(value) },
  { name: "reward", of: (decision) => decision.reward ?? null, format: (value) => signed(value), zero: true },
  { name: "to goal, m", of: distanceToGoal, format: (value) => number(value, 1), low: 0 },
];

/** Straight line from where a decision is taken to the goal; null where the goal is hidden. */
function distanceToGoal(decision) {
  const { path } = state.episode;
  if (!path) return null;
  const { level_m, rise_m } = directionTo(currentScan(), decision.place, path[path.length - 1]);
  return Math.hypot(level_m, rise_m);
}

/** Values of a series along both walks; null where there is none. */
function seriesValues(series) {
  const scan = currentScan();
  return [0, 1].map((agent) => {
    const walk = walkOf(agent);
    return walk ? walk.viewpoints.map((_, t) => series.of(decisionAt(scan, walk, t))) : [];
  });
}

function drawLine(values, agent, x, y) {
  const spots = values.map((value, t) => [value, t]).filter(([value]) => isNumber(value));
  const line = spots.map(([value, t], i) => `${i ? "L" : "M"}${x(t).toFixed(1)},${y(value).toFixed(1)}`).join("");
  return svg("g", { class: `agent-${agent}` }, svg("path", { class: "chart-line", d: line }),
    ...spots.map(([value, t]) => svg("circle", { class: "chart-dot", cx: x(t), cy: y(value), r: t === state.step ? 4 : 2.2 })));
}

function drawSeries(series, values, frame) {
  const known = values.flat().filter(isNumber);
  const low = series.low ?? Math.min(...known, series.zero ? 0 : Infinity);
  const high = series.high ?? Math.max(...known, series.zero ? 0 : -Infinity);
  const span = high - low || 1;
  const y = (value) => frame.bottom - ((value - low) / span) * (frame.bottom - frame.top);
  const group = svg("g", {},
    svg("line", { class: "chart-base", x1: frame.left, x2: frame.right, y1: y(clamp(0, low, high)), y2: y(clamp(0, low, high)) }),
    svg("text", { class: "chart-name", x: 0, y: frame.top + 8 }, series.name));
  values.forEach((own, agent) => {
    const now = own[Math.min(state.step, own.length - 1)];
    if (isNumber(now)) group.append(svg("text", { class: `chart-now agent-${agent}`, x: agent * 46, y: frame.top + 23 }, series.format(now)));
    group.append(drawLine(own, agent, frame.x, y));
  });
  return group;
}

/** Draw the charts into `root`. */
function drawChart(root) {
  const rows = SERIES.map((series) => [series, seriesValues(series)]).filter(([, values]) => values.flat().some(isNumber));
  if (!rows.length) {
    root.replaceChildren(el("p", { class: "muted" }, isWaiting() ? "Probabilities and value appear here as the agent walks."
      : "Nothing to draw: no decisions were recorded, and the goal is hidden."));
    return;
  }
  const [width, height] = [Math.max(200, root.clientWidth), Math.max(90, root.clientHeight)];
  const places = numPlaces(state.episode);
  const [left, right] = [100, width - 10];
  const x = (t) => (places > 1 ? left + (t * (right - left)) / (places - 1) : (left + right) / 2);
  const each = (height - 16) / rows.length;
  const drawing = svg("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": rows.map(([series]) => series.name).join(", ") });
  drawing.append(svg("line", { class: "chart-step", x1: x(state.step), x2: x(state.step), y1: 0, y2: height - 14 }));
  rows.forEach(([series, values], i) => drawing.append(drawSeries(series, values, { left, right, x, top: i * each + 6, bottom: (i + 1) * each - 6 })));
  const every = Math.ceil(places / 14);
  for (let t = 0; t < places; t += every) drawing.append(svg("text", { class: "chart-tick", x: x(t), y: height - 2 }, String(t + 1)));
  drawing.addEventListener("click", (event) => {
    const box = drawing.getBoundingClientRect();
    goTo(Math.round(((event.clientX - box.left - left) / (right - left)) * (places - 1)));
  });
  root.replaceChildren(drawing);
}
