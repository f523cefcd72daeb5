// Facts of the step and of the walks: what could be chosen, what was, and how the walks scored.

const METRIC_NAMES = {
  success_rate: ["success", "stopped with less than 3 m to walk to the goal"],
  spl: ["SPL", "success weighted by path length"],
  ndtw: ["nDTW", "likeness to the reference, 1 is best"],
  nav_error: ["error, m", "distance to the goal at the end"],
  lengths: ["length, m", "length of the walk"],
  steps: ["actions", "as recorded: turns of the head count too, moves alone in files that hold no turns"],
  oracle_rate: ["oracle", "was within 3 m of the goal at some place"],
  oracle_error: ["oracle error, m", "smallest distance to the goal on the way"],
  sdtw: ["sDTW", "nDTW where the walk succeeded, else 0"],
  cls: ["CLS", "coverage weighted by length score"],
  dtw: ["DTW, m", "dynamic time warping distance to the reference"],
};

/** The moves at this place, most probable first, and stop. */
function choicesOf(scan, episode, walk, step) {
  const decision = decisionAt(scan, walk, step);
  const reference = referenceNext(episode, walk, step);
  const moves = decision.candidates.map((candidate, k) => {
    const direction = directionTo(scan, decision.place, candidate);
    const steep = Math.abs(direction.rise_m) > 0.5 ? `, ${direction.rise_m > 0 ? "up" : "down"} ${number(Math.abs(direction.rise_m), 1)} m` : "";
    return { k, label: `${turnInWords(direction.heading - walk.heading[step])}, ${number(direction.level_m, 1)} m${steep}`,
      title: scan.ids[candidate], reference: reference === candidate };
  });
  const all = [...moves, { k: moves.length, label: "stop", title: "stop here", reference: reference === "stop" }];
  for (const choice of all) {
    choice.probability = decision.probabilities?.[choice.k] ?? null;
    choice.chosen = decision.action === choice.k;
  }
  return { decision, choices: all.sort((a, b) => (b.probability ?? 0) - (a.probability ?? 0)) };
}

/** Draw the decision of the agent in focus. */
function drawDecision(root, onChoose) {
  const agent = walker(state.focus);
  const walk = walkOf(agent);
  if (!walk) {
    root.replaceChildren(el("p", { class: "muted" }, "Nobody walked this episode."));
    return;
  }
  const step = stepWithin(walk, state.step);
  const { decision, choices } = choicesOf(currentScan(), state.episode, walk, step);
  byId("decision-note").textContent = unusual(decision, walk, step);
  const rows = choices.map((choice) => {
    const bar = el("span", { class: "choice-bar" }, el("span"));
    bar.firstChild.style.width = `${100 * (choice.probability ?? 0)}%`;
    return el("button", { type: "button", class: `choice${choice.chosen ? " is-chosen" : ""}`, title: choice.title,
      onclick: () => onChoose(agent, choice.k, choice.title) },
      el("span", { class: "choice-mark" }, choice.chosen ? "●" : ""),
      el("span", { class: "choice-label" }, choice.label),
      el("span", choice.reference ? { class: "reference-tag", title: "what the reference does here" } : {}, choice.reference ? "ref" : ""),
      choice.probability === null ? el("span") : bar, el("span", { class: "choice-share" }, choice.probability === null ? "" : percent(choice.probability)));
  });
  const why = isWaiting() ? "No decision yet: the agent waits for an instruction. It can go:"
    : walk.decisions ? null : "From a prediction file: places only, no probabilities.";
  const hint = why && el("p", { class: "muted" }, why);
  root.replaceChildren(...[hint, factLine(decision)].filter(Boolean), el("div", { class: `choices agent-${agent}` }, ...rows));
}

/** What is unusual about a step, in two or three words. */
function unusual(decision, walk, step) {
  if (decision.forced) return "forced";
  if (isWaiting()) return "";
  if (decision.action === null) return "cut off, no decision";
  return state.episode.path && referenceNext(state.episode, walk, step) === null ? "off the reference" : "";
}

function factLine(decision) {
  const { episode } = state;
  const facts = [];
  const fact = (name, value, title) => facts.push(el("span", { class: "fact", title }, el("span", { class: "muted" }, name), ` ${value}`));
  if (decision.value !== null && decision.value !== undefined) fact("value", signed(decision.value), "the critic's estimate of the return");
  if (decision.reward !== null && decision.reward !== undefined) fact("reward", signed(decision.reward), "reward of this decision");
  if (episode.path) {
    const scan = currentScan();
    const to = directionTo(scan, decision.place, episode.path.at(-1));
    fact("to goal", `${number(Math.hypot(to.level_m, to.rise_m), 1)} m`, "straight line to the goal");
  }
  return el("p", { class: "fact-line" }, ...facts);
}

/** Draw the scores of all walks as a table. */
function drawScores(root) {
  const { episode } = state;
  const scored = episode.walks.map((walk) => walk?.metrics ?? null);
  if (!scored.some((metrics) => metrics)) {
    root.replaceChildren(el("p", { class: "muted" }, "Not scored: the goal of this episode is hidden."));
    return;
  }
  const names = Object.keys(METRIC_NAMES).filter((name) => scored.some((metrics) => metrics && isNumber(metrics[name])));
  const cell = (metrics, name) => {
    const value = metrics?.[name];
    if (!name.endsWith("_rate")) return number(value, name === "steps" ? 0 : 2);
    return isNumber(value) ? (value > 0.5 ? "yes" : "no") : "–";
  };
  const head = el("tr", {}, el("th"), ...state.agents.map((agent, i) =>
    el("th", { scope: "col", title: agent.name }, el("span", { class: `agent-chip agent-${i}` }, LETTERS[i]))));
  const rows = names.map((name) => el("tr", {},
    el("th", { scope: "row", title: METRIC_NAMES[name][1] }, METRIC_NAMES[name][0]),
    ...state.agents.map((_, i) => el("td", {}, cell(scored[i], name)))));
  const header = state.agents.length > 1 ? el("thead", {}, head) : null;
  root.replaceChildren(el("table", { class: "scores" }, header, el("tbody", {}, ...rows)));
}
