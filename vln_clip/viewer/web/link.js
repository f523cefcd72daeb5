// Deep links: the address keeps what is shown, "#episode=4332_0&step=3&agent=name", and is honored when it changes.

const Link = (() => {
  /** Put what is shown into the address. */
  function write() {
    if (!state.episode || page.live) return;
    const parts = new URLSearchParams({ episode: state.episode.id, step: String(state.step + 1) });
    if (page.agents.length > 1) {
      parts.set("agent", page.agents[state.focus].name);
      parts.set("panes", state.both ? "2" : "1");
    }
    if (state.compass) parts.set("view", "compass");
    if (state.overlay !== "none") parts.set("overlay", state.overlay);
    const hash = `#${parts}`;
    if (hash !== location.hash) history.replaceState(null, "", hash);
  }

  /** Agent of a link by its name; 0 where the link names none. A name unknown here is said. */
  function agentOf(name) {
    const found = page.agents.findIndex((agent) => agent.name === name);
    if (name !== null && found < 0) say(`The link names the agent “${name}”, which is not in this page; shown is ${page.agents[0].name}.`);
    return Math.max(found, 0);
  }

  /** Show what the address names. Returns whether it named an episode of this page. */
  function read() {
    const parts = new URLSearchParams(location.hash.slice(1));
    if (!parts.has("episode")) return false;
    const id = parts.get("episode");
    const episode = page.episodes.find((one) => one.id === id);
    if (!episode) {
      const all = `${count(page.episodes.length, "episode")} of this page (${page.dataset} ${page.split})`;
      say(`The link names the episode “${id}”, which is not among the ${all}.`);
      return false;
    }
    say(null);
    change({ compass: parts.get("view") === "compass", both: parts.get("panes") === "2" && page.agents.length > 1,
      overlay: ["views", "saliency"].includes(parts.get("overlay")) ? parts.get("overlay") : "none" });
    const step = Number(parts.get("step") ?? 1) - 1;
    showEpisode(episode, Number.isInteger(step) ? step : 0, agentOf(parts.get("agent")));
    return true;
  }

  return { read, write };
})();

/** Show a sentence over the page, or take it away; one that is passing goes with the next step. */
function say(sentence, passing = false) {
  byId("message").textContent = sentence ?? "";
  byId("toast").hidden = !sentence;
  byId("toast").dataset.passing = String(passing);
}

/** Take away a sentence that was about what was shown before. */
function sayNoMore() {
  if (byId("toast").dataset.passing === "true") say(null);
}
