// What the page shows now. One object; whoever changes it calls `change`, whoever draws from it listens.

const state = {
  episode: null,       // the episode shown, an object of the document or of the live server
  step: 0,             // place in the walk, from 0
  focus: 0,            // agent whose words, choices and facts are shown
  both: false,         // two panes side by side
  compass: false,      // the compass instead of the panorama, by the user's choice
  overlay: "none",     // none, views or saliency
  playing: false,
  speed: 1,
  agents: page.agents, // their names; live mode names the walk that was kept
};

const listeners = [];

/** Call `listener(changed)` after every change; `changed` is the set of changed names. */
function onChange(listener) {
  listeners.push(listener);
}

/** Set some of the state; nothing happens where nothing differs. */
function change(values) {
  const changed = new Set(Object.keys(values).filter((name) => state[name] !== values[name]));
  if (!changed.size) return;
  Object.assign(state, values);
  for (const listener of listeners) listener(changed);
}

function currentScan() {
  return state.episode ? page.scans[state.episode.scan] : null;
}

function walkOf(agent) {
  return state.episode?.walks[agent] ?? null;
}

/** First agent with a walk; the focus goes there when the chosen one did not walk. */
function walker(preferred) {
  if (walkOf(preferred)) return preferred;
  const found = state.episode ? state.episode.walks.findIndex((walk) => walk) : -1;
  return found < 0 ? 0 : found;
}

/** Go to a step, kept within the walks. */
function goTo(step) {
  if (!state.episode) return;
  change({ step: clamp(step, 0, numPlaces(state.episode) - 1) });
}

/** Show an episode from a step on. */
function showEpisode(episode, step = 0, focus = state.focus) {
  const last = numPlaces(episode) - 1;
  const agent = episode.walks[focus] ? focus : Math.max(0, episode.walks.findIndex((walk) => walk));
  change({ episode, step: clamp(step, 0, last), focus: agent });
}
