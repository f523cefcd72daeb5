// Live mode: a start, an instruction of one's own, and the agent decides through the server, move by move.
// The server keeps nothing: every request names the start and all actions so far.

const Live = (() => {
  let start = null;     // {scan, place, heading, path}: where the walk begins
  let session = null;   // {request, forced}: what the shown walk was asked with
  let kept = null;      // {scan, start, walk}: the walk kept as B
  let latest = 0;       // number of the newest request; answers to older ones are dropped

  async function ask(path, body) {
    const options = body ? { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) } : {};
    let answer;
    try {
      answer = await fetch(path, options);
    } catch {
      throw new Error("The server does not answer; is vln-clip visualize --serve still running?");
    }
    const value = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(value.error ?? value.detail ?? `The server answered ${answer.status}.`);
    return value;
  }

  function form() {
    const scan = page.scans[start.scan];
    return { scan: start.scan, start: scan.ids[start.place], heading: start.heading,
      instruction: byId("live-instruction").value.trim(), language: byId("live-language").value };
  }

  function busy(is) {
    document.body.classList.toggle("is-busy", is);
    for (const button of document.querySelectorAll("#live-buttons button")) button.disabled = is;
  }

  /** Ask for a walk and show it; `step` says where to stand, null for its last place. */
  async function walk(request, actions, forced, finish, step = null) {
    const own = ++latest;
    busy(true);
    try {
      const { episode } = await ask("/api/walk", { ...request, actions, finish });
      if (own !== latest) return;
      session = { request, forced };
      show(episode, step);
    } catch (error) {
      if (own === latest) say(error.message);
    } finally {
      if (own === latest) busy(false);
    }
  }

  function show(episode, step) {
    say(null);
    const [shown] = episode.walks;
    shown.instruction = session.request.instruction;
    shown.decisions.forEach((decision, t) => { decision.forced = session.forced.has(t); });
    episode.path = start.path;
    if (kept && (kept.scan !== session.request.scan || kept.start !== session.request.start)) {
      keep(null);
      say("The walk kept for comparison began elsewhere and was let go.");
    }
    episode.walks = kept ? [shown, kept.walk] : [shown];
    showEpisode(episode, step ?? shown.viewpoints.length - 1, 0);
    writeLink();
  }

  /** Put start and instruction into the address, so that it can be shared and loaded again. */
  function writeLink() {
    const { scan, start: viewpoint, heading, instruction, language } = session.request;
    const parts = new URLSearchParams({ scan, start: viewpoint, heading: ((((heading / DEGREE) % 360) + 360) % 360).toFixed(1), language, instruction });
    history.replaceState(null, "", `#${parts}`);
  }

  /** Begin as the address says, or with `otherwise`. Returns what is wrong with the address, null where nothing is. */
  function readLink(otherwise) {
    const parts = new URLSearchParams(location.hash.slice(1));
    if (!parts.has("scan")) {
      otherwise();
      return null;
    }
    const scan = Object.hasOwn(page.scans, parts.get("scan")) ? page.scans[parts.get("scan")] : null;
    const place = scan ? scan.ids.indexOf(parts.get("start")) : -1;
    if (place < 0) {
      otherwise();
      return `The link names the start ${parts.get("scan")} ${parts.get("start")}, which is not in this page (${page.dataset} ${page.split}).`;
    }
    byId("live-instruction").value = parts.get("instruction") ?? "";
    if ((page.languages ?? ["en"]).includes(parts.get("language"))) byId("live-language").value = parts.get("language");
    const heading = Number(parts.get("heading"));
    standAt(parts.get("scan"), place, (Number.isFinite(heading) ? heading : 0) * DEGREE, null);
    return null;
  }

  /** Moves that the shown walk has carried out. */
  function moves() {
    const shown = walkOf(0);
    return shown.decisions.slice(0, shown.viewpoints.length - 1).map((decision) => decision.a);
  }

  /** Whether the form still asks for the walk that is shown. */
  function isCurrent() {
    return session !== null && JSON.stringify(form()) === JSON.stringify(session.request);
  }

  function isReady() {
    if (form().instruction) return true;
    say("Type an instruction first.");
    byId("live-instruction").focus();
    return false;
  }

  function begin(finish) {
    return walk(form(), [], new Set(), finish, 0).then(() => finish && session && change({ playing: true }));
  }

  function step() {
    if (!isReady()) return undefined;
    if (!isCurrent()) return begin(false);
    const shown = walkOf(0);
    if (state.step < shown.viewpoints.length - 1) return Player.step(1);
    const next = shown.decisions.at(-1);
    if (shown.decisions.length < shown.viewpoints.length || next.a === next.c.length) {
      return say("The walk ends here. Go back, click another move, or change the instruction.");
    }
    return walk(session.request, [...moves(), next.a], session.forced, false);
  }

  async function finish() {
    if (!isReady()) return;
    if (!isCurrent()) {
      await begin(true);
      return;
    }
    const from = Math.min(state.step, walkOf(0).viewpoints.length - 1);
    await walk(session.request, moves(), session.forced, true, from);
    change({ playing: true });
  }

  function back() {
    if (session === null) return undefined;
    const to = Math.min(state.step, walkOf(0).viewpoints.length - 1) - 1;
    if (to < 0) return say("The walk is at its start.");
    return walk(session.request, moves().slice(0, to), new Set([...session.forced].filter((t) => t < to)), false);
  }

  /** Force a move (or stop) at the step shown; what came after is dropped. */
  function force(agent, k) {
    if (agent !== 0) return;
    if (session === null) {
      isReady();
      return;
    }
    if (!isCurrent()) {
      say("The instruction or start was changed; press Step to begin the new walk.");
      return;
    }
    change({ playing: false });
    const at = Math.min(state.step, walkOf(0).viewpoints.length - 1);
    const forced = new Set([...session.forced].filter((t) => t < at).concat(at));
    const stops = k === walkOf(0).decisions[at].c.length;
    walk(session.request, [...moves().slice(0, at), k], forced, false, stops ? at : null);
  }

  function keep(value) {
    kept = value;
    const about = kept?.walk.instruction;
    const two = [{ name: "as typed", about: "with the instruction that stands on the left" }, { name: "kept", about }];
    change({ agents: kept ? two : page.agents, both: kept !== null });
    byId("live-kept").replaceChildren(...(kept ? [
      el("span", { class: "agent-chip agent-1" }, "B"), el("span", { class: "kept-text", title: about }, about),
      el("button", { type: "button", title: "let B go", onclick: letGo }, "Remove")] : []));
  }

  function letGo() {
    keep(null);
    showEpisode({ ...state.episode, walks: [walkOf(0)] }, state.step, 0);
  }

  function compare() {
    if (session === null) return say("Let the agent walk first, then keep its walk for comparison.");
    keep({ scan: session.request.scan, start: session.request.start, walk: walkOf(0) });
    showEpisode({ ...state.episode, walks: [walkOf(0), kept.walk] }, state.step, 0);
    byId("live-instruction").focus();
    byId("live-instruction").select();
    return undefined;
  }

  /** Stand at a start; the agent's first decision is asked for as soon as there is an instruction. */
  function standAt(scanName, place, heading, path) {
    start = { scan: scanName, place, heading, path };
    session = null;
    byId("live-scan").value = scanName;
    byId("live-heading").value = String(Math.round((((heading / DEGREE) % 360) + 360) % 360));
    byId("live-start").textContent = page.scans[scanName].ids[place];
    say(null);
    if (form().instruction) return begin(false);
    const here = { viewpoints: [place], heading: [heading], elevation: [0], words: null, unknown: [], metrics: null, decisions: [] };
    const language = byId("live-language").value;
    return showEpisode({ id: "", scan: scanName, language, instruction: "", path, walks: [here] }, 0, 0);
  }

  async function search() {
    try {
      const wanted = byId("live-search").value;
      const found = await ask(`/api/episodes?query=${encodeURIComponent(wanted)}`);
      if (wanted !== byId("live-search").value) return; // typed on meanwhile
      const rows = found.episodes.map(result);
      byId("live-results").replaceChildren(...(rows.length ? rows : [el("p", { class: "muted list-empty" }, "No episode fits.")]));
    } catch (error) {
      say(error.message);
    }
  }

  function result(episode) {
    return el("button", { type: "button", class: "live-result", "data-id": episode.id, onclick: () => {
      const scan = page.scans[episode.scan];
      const local = (viewpoint) => (typeof viewpoint === "number" ? viewpoint : scan.ids.indexOf(viewpoint));
      byId("live-instruction").value = episode.instruction;
      if (episode.language) byId("live-language").value = episode.language;
      standAt(episode.scan, local(episode.start), episode.heading, episode.path ? episode.path.map(local) : null);
    } },
    el("span", { class: "row-text", lang: languageTag(episode.language), dir: "auto" }, episode.instruction),
    el("span", { class: "row-facts" }, el("span", {}, episode.id), el("span", { class: "muted" }, shortId(episode.scan))));
  }

  function connect() {
    const scans = Object.keys(page.scans);
    byId("live-scan").append(...scans.map((scan) => el("option", { value: scan }, scan)));
    const languages = page.languages ?? ["en"];
    byId("live-language").append(...languages.map((name) => el("option", { value: name }, name)));
    byId("live-language").closest("label").hidden = languages.length < 2;
    byId("live-scan").addEventListener("change", (event) => standAt(event.target.value, 0, 0, null));
    byId("live-heading").addEventListener("change", (event) => standAt(start.scan, start.place, Number(event.target.value) * DEGREE, start.path));
    byId("live-search").addEventListener("input", search);
    const acts = { "live-step": step, "live-walk": finish, "live-back": back, "live-compare": compare };
    for (const [id, act] of Object.entries(acts)) byId(id).addEventListener("click", act);
    byId("live-instruction").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) finish();
    });
    const problem = readLink(() => standAt(scans[0], 0, 0, null));
    if (problem) say(problem);
    search();
  }

  /** A click on the map: begin there. */
  function pick(place) {
    const toStart = place === start.place;
    if (!toStart) standAt(start.scan, place, start.heading, null);
  }

  return { connect, force, pick };
})();
