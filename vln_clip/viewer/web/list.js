// The list of episodes: filters, order, and only as many rows in the page as can be seen.

const ROW_PX = 68;

/** Orders of the list; every one falls back on the document's own order. Unknown values come last. */
const ORDERS = {
  failures: { label: "failures first", needsScores: true, keys: (e) => [rank(succeeded(e, 0)), rank(metric(e, 0, "ndtw"))] },
  ndtw: { label: "nDTW, lowest first", needsScores: true, keys: (e) => [rank(metric(e, 0, "ndtw"))] },
  best: { label: "nDTW, highest first", needsScores: true, keys: (e) => [rank(metric(e, 0, "ndtw"), -1)] },
  success: { label: "successes first", needsScores: true, keys: (e) => [rank(succeeded(e, 0), -1)] },
  longest: { label: "longest walk first", keys: (e) => [rank(metric(e, 0, "lengths") ?? e.walks[0]?.viewpoints.length, -1)] },
  differ: { label: "largest gap A − B first", needsTwo: true, needsScores: true, keys: (e) => [rank(gap(e), -1)] },
  id: { label: "id", keys: (e) => [e.id] },
};

const OUTCOMES = {
  all: { label: "any outcome", keep: () => true },
  failed: { label: "failures", needsScores: true, keep: (e) => succeeded(e, 0) === false },
  succeeded: { label: "successes", needsScores: true, keep: (e) => succeeded(e, 0) === true },
  differ: { label: "A and B differ", needsTwo: true, keep: (e) => Boolean(e.walks[0] && e.walks[1]) && !sameWay(e) },
  onlyA: { label: "only A succeeds", needsScores: true, needsTwo: true, keep: (e) => succeeded(e, 0) === true && succeeded(e, 1) === false },
  onlyB: { label: "only B succeeds", needsScores: true, needsTwo: true, keep: (e) => succeeded(e, 0) === false && succeeded(e, 1) === true },
};

function rank(value, sign = 1) {
  return value === null || value === undefined ? Infinity : sign * Number(value);
}

function gap(episode) {
  const [a, b] = [metric(episode, 0, "ndtw"), metric(episode, 1, "ndtw")];
  return a === null || b === null ? null : Math.abs(a - b);
}

function compareKeys(a, b) {
  for (let i = 0; i < a.length; i += 1) {
    if (typeof a[i] === "string") {
      const order = a[i].localeCompare(b[i], "en", { numeric: true });
      if (order) return order;
    } else if (a[i] !== b[i]) return a[i] < b[i] ? -1 : 1;
  }
  return 0;
}

class EpisodeList {
  constructor(root) {
    const two = page.agents.length > 1;
    const scored = page.episodes.some((episode) => episode.walks.some((walk) => walk?.metrics));
    const offered = (table) => Object.entries(table).filter(([, entry]) => (two || !entry.needsTwo) && (scored || !entry.needsScores));
    const choices = (table) => offered(table).map(([name, { label }]) => [name, label]);
    const distinct = (name) => [...new Set(page.episodes.map((episode) => episode[name]))].sort();
    this.search = el("input", { type: "search", id: "search", placeholder: "Search instructions and ids", "aria-label": "search",
      oninput: () => this.refresh() });
    this.order = this.#select("order", "order of the list", choices(ORDERS));
    this.outcome = this.#select("outcome", "outcome", choices(OUTCOMES));
    this.outcome.hidden = choices(OUTCOMES).length < 2;
    this.scan = this.#select("scan", "scan", [["", "all scans"], ...distinct("scan").map((scan) => [scan, shortId(scan)])]);
    const languages = distinct("language");
    this.language = this.#select("language", "language", [["", "all languages"], ...languages.map((name) => [name, name])]);
    this.language.hidden = languages.length < 2;
    this.counter = el("p", { class: "list-count muted", "aria-live": "polite" });
    this.spacer = el("div", { class: "list-spacer" });
    this.rows = el("div", { class: "list-rows", role: "listbox", tabindex: 0, "aria-label": "episodes" }, this.spacer);
    this.drawRows = oncePerFrame(() => this.#drawRows());
    this.rows.addEventListener("scroll", this.drawRows, { passive: true });
    new ResizeObserver(this.drawRows).observe(this.rows);
    root.append(el("div", { class: "filters" }, this.search, el("div", { class: "filter-grid" }, this.order, this.outcome, this.scan, this.language)),
      this.counter, this.rows);
    this.refresh();
  }

  /** Filter and sort anew. */
  refresh() {
    const terms = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const keep = OUTCOMES[this.outcome.value].keep;
    const kept = page.episodes.filter((episode) =>
      (!this.scan.value || episode.scan === this.scan.value) &&
      (!this.language.value || episode.language === this.language.value) &&
      keep(episode) && terms.every((term) => textOf(episode).includes(term)));
    const { keys } = ORDERS[this.order.value];
    this.shown = kept.map((episode) => [keys(episode), episode]).sort((a, b) => compareKeys(a[0], b[0])).map(([, episode]) => episode);
    const all = page.episodes.length;
    const rate = this.#rate();
    const some = this.shown.length === all ? "" : `${this.shown.length.toLocaleString("en-US")} of `;
    this.counter.textContent = some + count(all, "episode") + rate;
    this.spacer.style.height = `${this.shown.length * ROW_PX}px`;
    this.rows.scrollTop = 0;
    this.drawRows();
  }

  /** Choose the episode that many rows further down. */
  move(by) {
    if (!this.shown.length) return;
    const at = this.shown.indexOf(state.episode);
    this.choose(this.shown[clamp(at < 0 ? 0 : at + by, 0, this.shown.length - 1)]);
  }

  choose(episode) {
    showEpisode(episode);
    this.reveal();
  }

  /** Scroll so that the chosen episode is seen. */
  reveal() {
    const at = this.shown.indexOf(state.episode);
    if (at < 0) return this.drawRows();
    const { scrollTop, clientHeight } = this.rows;
    if (at * ROW_PX < scrollTop) this.rows.scrollTop = at * ROW_PX;
    else if ((at + 1) * ROW_PX > scrollTop + clientHeight) this.rows.scrollTop = (at + 1) * ROW_PX - clientHeight;
    return this.drawRows();
  }

  #select(id, label, entries) {
    return el("select", { id, "aria-label": label, title: label, onchange: () => this.refresh() },
      ...entries.map(([value, text]) => el("option", { value }, text)));
  }

  #rate() {
    const rates = page.agents.map((_, agent) => {
      const known = this.shown.map((episode) => succeeded(episode, agent)).filter((value) => value !== null);
      return known.length ? `${page.agents.length > 1 ? `${LETTERS[agent]} ` : ""}${(100 * known.filter(Boolean).length / known.length).toFixed(1)}%` : null;
    }).filter((text) => text !== null);
    return rates.length ? ` · success ${rates.join(", ")}` : "";
  }

  #drawRows() {
    const first = Math.max(0, Math.floor(this.rows.scrollTop / ROW_PX) - 4);
    const last = Math.min(this.shown.length, first + Math.ceil(this.rows.clientHeight / ROW_PX) + 8);
    const drawn = [];
    for (let i = first; i < last; i += 1) drawn.push(this.#row(this.shown[i], i));
    if (!this.shown.length) drawn.push(el("p", { class: "list-empty muted" }, "No episode fits these filters."));
    this.rows.replaceChildren(this.spacer, ...drawn);
  }

  #row(episode, i) {
    const chosen = episode === state.episode;
    const row = el("div", { class: `row${chosen ? " is-on" : ""}`, role: "option", "aria-selected": String(chosen), "data-id": episode.id,
      onclick: () => this.choose(episode) },
      el("div", { class: "row-text", lang: languageTag(episode.language), dir: "auto" }, episode.instruction),
      el("div", { class: "row-facts" },
        ...page.agents.map((_, agent) => outcomeMark(episode, agent)),
        el("span", { class: "row-id", title: `${episode.id} in ${episode.scan}` }, episode.id),
        el("span", { class: "muted row-scan" }, shortId(episode.scan)),
        this.language.hidden ? null : el("span", { class: "muted" }, episode.language)));
    row.style.top = `${i * ROW_PX}px`;
    return row;
  }
}

/** Text that the search looks into; made once per episode. */
function textOf(episode) {
  episode.text ??= `${episode.instruction} ${episode.id} ${episode.scan}`.toLowerCase();
  return episode.text;
}

/** Success and nDTW of one agent in a small mark. */
function outcomeMark(episode, agent) {
  const success = succeeded(episode, agent);
  const two = episode.walks.length > 1;
  const [sign, kind, words] = success === null
    ? [episode.walks[agent] ? "·" : "–", "unknown", episode.walks[agent] ? "not scored" : "no walk"]
    : success ? ["✓", "good", "success"] : ["✕", "bad", "failure"];
  const ndtw = metric(episode, agent, "ndtw");
  return el("span", { class: `outcome is-${kind}`, title: `${two ? `${LETTERS[agent]}: ` : ""}${words}${ndtw === null ? "" : `, nDTW ${number(ndtw, 3)}`}` },
    el("b", {}, two ? `${LETTERS[agent]} ${sign}` : sign), ndtw === null ? "" : ` ${number(ndtw)}`);
}
