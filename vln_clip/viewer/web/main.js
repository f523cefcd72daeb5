// Puts the page together: who listens to what, keyboard, theme, and the first episode.

const panes = LETTERS.slice(0, page.live ? 2 : page.agents.length).map((_, agent) => new Pane(agent, choose, () => map.redraw()));
const map = new WalkMap(byId("map"), (place) => (page.live ? Live.pick(place) : say(`Viewpoint ${currentScan().ids[place]}`, true)));
const list = page.live || !page.episodes.length ? null : new EpisodeList(byId("list"));

/** A candidate was clicked: live it is forced, in a recorded walk its id is shown. */
function choose(agent, k, title) {
  if (page.live) Live.force(agent, k);
  else say(`${title}. This walk is recorded; live, a click sends the agent there.`, true);
}

/** Put the panes into the page that are to be seen: both, or the one in focus. */
function arrangePanes() {
  const wanted = state.both ? panes : [panes[walker(state.focus)] ?? panes[0]];
  const shown = [...byId("panes").children];
  if (shown.length !== wanted.length || wanted.some((pane, i) => shown[i] !== pane.root)) byId("panes").replaceChildren(...wanted.map((pane) => pane.root));
  byId("panes").classList.toggle("is-two", state.both);
  for (const pane of panes) pane.root.classList.toggle("is-focus", state.both && pane.agent === state.focus);
}

function drawHead() {
  const { episode } = state;
  const facts = [el("strong", {}, page.live ? "Live walk" : `Episode ${episode.id}`), el("span", { class: "muted", title: "scan" }, episode.scan),
    el("span", { class: "muted" }, episode.language)];
  if (episode.walks.some((walk) => walk?.metrics)) facts.push(...episode.walks.map((_, agent) => outcomeMark(episode, agent)));
  byId("head-facts").replaceChildren(...facts);
  drawAgentTabs();
  byId("view-mode").hidden = !HAS_WEBGL || !Pictures.any(episode.scan);
}

/** Tabs for the agents: one of them, or both side by side. */
function drawAgentTabs() {
  const root = byId("agent-tabs");
  root.hidden = byId("legend-b").hidden = state.agents.length < 2;
  const tab = (label, title, on, onclick) => el("button", { type: "button", title, class: on ? "is-on" : null, "aria-pressed": String(on), onclick }, ...label);
  root.replaceChildren(
    ...state.agents.map((agent, i) => tab([el("span", { class: `agent-chip agent-${i}` }, LETTERS[i]), ` ${agent.name}`], agent.about || agent.name,
      !state.both && walker(state.focus) === i, () => change({ focus: i, both: false }))),
    tab(["side by side"], "both agents beside each other", state.both, () => change({ both: true })));
}

function drawStepViews() {
  drawWords(byId("instruction"));
  drawDecision(byId("decision"), choose);
  drawChart(byId("chart"));
}

function drawViewControls() {
  for (const button of byId("view-mode").children) {
    const on = (button.dataset.view === "compass") === state.compass;
    button.classList.toggle("is-on", on);
    button.setAttribute("aria-pressed", String(on));
  }
  byId("overlay").value = state.overlay;
  const decided = state.episode.walks.flatMap((walk) => walk?.decisions ?? []);
  byId("overlay").options[2].hidden = !decided.some((decision) => decision.s);
  byId("overlay").hidden = !decided.some((decision) => decision.v || decision.s) || panes[0].usesCompass;
}

function redraw(changed) {
  if (!state.episode) return;
  const has = (...names) => names.some((name) => changed.has(name));
  document.body.classList.add("has-episode");
  document.body.classList.toggle("no-goal", !state.episode.path);
  if (has("episode", "step")) sayNoMore();
  if (has("both", "focus", "episode", "agents")) arrangePanes();
  if (has("episode", "step", "both", "focus", "compass", "overlay", "agents")) {
    for (const pane of panes) if (pane.root.isConnected) pane.show(!changed.has("episode") || Boolean(page.live));
  }
  if (has("episode", "both", "focus", "agents")) drawHead();
  if (has("episode", "agents")) drawScores(byId("scores"));
  if (changed.has("episode")) {
    map.showEpisode();
    list?.reveal();
  } else if (has("step", "focus")) map.showStep();
  if (has("episode", "step", "focus", "agents")) drawStepViews();
  drawViewControls();
  Link.write();
  preloadNext();
}

/** Decode the pictures of the next step before they are needed. */
function preloadNext() {
  for (const pane of panes) {
    const next = walkOf(pane.agent)?.viewpoints[state.step + 1];
    const key = next === undefined || pane.broken ? null : Pictures.keyOf(state.episode.scan, next);
    if (key) Pictures.load(key).catch(() => {}); // said when the place is reached
  }
}

const THEMES = { auto: "Theme: auto", light: "Theme: light", dark: "Theme: dark" };

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  byId("theme").textContent = THEMES[theme];
}

const KEYS = {
  " ": () => Player.toggle(),
  ArrowRight: () => Player.step(1),
  ArrowLeft: () => Player.step(-1),
  Home: () => Player.step(-Infinity),
  End: () => Player.step(Infinity),
  n: () => list?.move(1),
  j: () => list?.move(1),
  ArrowDown: () => list?.move(1),
  p: () => list?.move(-1),
  k: () => list?.move(-1),
  ArrowUp: () => list?.move(-1),
  c: () => change({ compass: !state.compass }),
  a: () => state.agents.length > 1 && change({ focus: 1 - state.focus }),
  s: () => state.agents.length > 1 && change({ both: !state.both }),
  f: () => map.fit(true),
  "/": () => byId(page.live ? "live-search" : "search")?.focus(),
  "?": () => byId("help").showModal(),
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  const typing = event.target.closest("input[type=search], input[type=number], textarea, select");
  if (typing) {
    if (event.key === "Escape") typing.blur();
    return;
  }
  if (event.key === " " && event.target.closest("button")) return; // a pressed button is its own
  if (!KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
}

function connect() {
  document.title = page.title;
  byId("title").textContent = page.title;
  byId("where").textContent = [page.dataset, page.split].filter(Boolean).join(" · ");
  byId("facts").append(...page.facts.map((fact) => el("li", {}, fact)), ...page.agents.map((agent, i) => el("li", {},
    page.agents.length > 1 ? el("span", { class: `agent-chip agent-${i}` }, LETTERS[i]) : null, ` ${agent.name}${agent.about ? `: ${agent.about}` : ""}`)));
  byId("notes").hidden = !page.notes.length;
  byId("notes").append(...page.notes.map((note) => el("p", {}, note)));
  byId("theme").addEventListener("click", () => {
    const names = Object.keys(THEMES);
    setTheme(names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length]);
  });
  byId("help-button").addEventListener("click", () => byId("help").showModal());
  byId("overlay").addEventListener("change", (event) => change({ overlay: event.target.value }));
  for (const button of byId("view-mode").children) button.addEventListener("click", () => change({ compass: button.dataset.view === "compass" }));
  byId("message-close").addEventListener("click", () => say(null));
  document.addEventListener("keydown", onKey);
  window.addEventListener("hashchange", () => Link.read());
  new ResizeObserver(() => state.episode && drawChart(byId("chart"))).observe(byId("chart"));
  setTheme("auto");
  Player.connect();
  onChange(redraw);
}

connect();
document.body.classList.toggle("is-live", Boolean(page.live));
if (page.live) Live.connect();
else if (!page.episodes.length) say("This page holds no episodes.");
else if (!Link.read()) list.choose(list.shown[0]);
document.body.dataset.ready = "true";
