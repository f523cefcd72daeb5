// The top-down map of a scan, floor by floor: graph, reference, walks, and where each agent is and looks.

const TABS_PX = 38;  // upper part of the map that floors and tools cover
const SCALE_PX = 22; // lower part with the scale bar

class WalkMap {
  constructor(root, onPick) {
    this.drawing = svg("svg", { class: "map-drawing", role: "img", "aria-label": "map of the scan seen from above" });
    this.tabs = el("div", { class: "map-floors", role: "group", "aria-label": "floors" });
    this.tools = el("div", { class: "map-tools" },
      this.#tool("+", "zoom in", () => this.#zoom(1.35)),
      this.#tool("−", "zoom out", () => this.#zoom(1 / 1.35)),
      this.#tool("walk", "fit to the walk", () => this.fit(true)),
      this.#tool("all", "fit to the whole floor", () => this.fit(false)));
    this.hover = el("div", { class: "map-hover", hidden: true });
    this.root = root;
    root.append(this.drawing, this.tabs, this.tools, this.hover);
    this.floor = 0;
    this.view = { x: 0, y: 0, scale: 20 }; // middle in metres, pixels per metre
    this.fitted = true; // whether to the walk; null once the user moved or zoomed the map
    this.redraw = oncePerFrame(() => this.#draw());
    this.#listen(onPick);
    new ResizeObserver(() => (this.fitted === null ? this.redraw() : this.fit(this.fitted))).observe(root);
  }

  /** Take another episode: its floor, its walk fitted. */
  showEpisode() {
    this.#follow();
    this.#floorTabs();
    this.fit(true);
  }

  /** Go along with the walk: change the floor when it does. */
  showStep() {
    const floor = this.floor;
    this.#follow();
    if (floor !== this.floor) this.#floorTabs();
    this.redraw();
  }

  /** Fit the picture to the walk with its reference, or to the whole floor; to that too where nobody has moved yet. */
  fit(toWalk) {
    const scan = currentScan();
    if (!scan) return;
    this.fitted = toWalk;
    const walked = [...(state.episode.path ?? []), ...state.episode.walks.flatMap((walk) => walk?.viewpoints ?? [])];
    const wanted = toWalk && new Set(walked).size > 1 ? walked : scan.ids.map((_, i) => i).filter((i) => scan.floor[i] === this.floor);
    const [xs, ys] = [wanted.map((i) => scan.x[i]), wanted.map((i) => scan.y[i])];
    const [west, east, south, north] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const margin_m = toWalk ? SUCCESS_M + 0.6 : 1.2;
    const { width, height } = this.#size();
    const scale = Math.min(width / (east - west + 2 * margin_m), (height - TABS_PX - SCALE_PX) / (north - south + 2 * margin_m));
    const kept = clamp(scale, 4, 90);
    this.view = { x: (west + east) / 2, y: (south + north) / 2 + (TABS_PX - SCALE_PX) / 2 / kept, scale: kept };
    this.redraw();
  }

  #tool(label, title, onclick) {
    return el("button", { type: "button", title, "aria-label": title, onclick }, label);
  }

  #size() {
    return { width: Math.max(50, this.drawing.clientWidth), height: Math.max(50, this.drawing.clientHeight) };
  }

  #place() {
    const walk = walkOf(walker(state.focus));
    return walk ? walk.viewpoints[stepWithin(walk, state.step)] : state.episode?.path?.[0];
  }

  #follow() {
    const place = this.#place();
    if (place !== undefined) this.floor = currentScan().floor[place];
  }

  #floorTabs() {
    const { floors } = currentScan();
    this.tabs.replaceChildren(...floors.map((about, floor) => el("button", {
      type: "button", class: floor === this.floor ? "is-on" : null, title: about, "aria-pressed": String(floor === this.floor),
      onclick: () => { this.floor = floor; this.#floorTabs(); this.redraw(); } }, floors.length > 1 ? `floor ${floor + 1}` : about)));
    this.tabs.append(el("span", { class: "muted" }, floors.length > 1 ? floors[this.floor] : ""));
  }

  #zoom(factor, x = null, y = null) {
    const { width, height } = this.#size();
    const [dx, dy] = [(x ?? width / 2) - width / 2, (y ?? height / 2) - height / 2];
    const scale = clamp(this.view.scale * factor, 2, 200);
    this.view.x += dx / this.view.scale - dx / scale;
    this.view.y -= dy / this.view.scale - dy / scale;
    this.view.scale = scale;
    this.fitted = null;
    this.redraw();
  }

  /** Nearest viewpoint of the floor within some pixels; null where there is none. */
  #near(event, reach_px = 14) {
    const scan = currentScan();
    if (!scan) return null;
    const box = this.drawing.getBoundingClientRect();
    let [best, nearest] = [null, reach_px];
    scan.ids.forEach((_, i) => {
      if (scan.floor[i] !== this.floor) return;
      const [x, y] = this.at(i);
      const distance = Math.hypot(x - (event.clientX - box.left), y - (event.clientY - box.top));
      if (distance < nearest) [best, nearest] = [i, distance];
    });
    return best;
  }

  /** Pixels of a viewpoint. */
  at(i) {
    const scan = currentScan();
    const { width, height } = this.#size();
    return [width / 2 + (scan.x[i] - this.view.x) * this.view.scale, height / 2 - (scan.y[i] - this.view.y) * this.view.scale];
  }

  #draw() {
    const scan = currentScan();
    if (!scan) return this.drawing.replaceChildren();
    const { width, height } = this.#size();
    this.drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.drawing.replaceChildren(...drawMap(this, scan, { width, height }));
    this.drawing.dataset.floor = this.floor;
    return undefined;
  }

  #listen(onPick) {
    onDrag(this.drawing, (dx, dy) => {
      this.view.x -= dx / this.view.scale;
      this.view.y += dy / this.view.scale;
      this.fitted = null;
      this.redraw();
    }, (event) => {
      const near = this.#near(event);
      if (near !== null) onPick(near);
    });
    this.drawing.addEventListener("wheel", (event) => {
      event.preventDefault();
      const box = this.drawing.getBoundingClientRect();
      this.#zoom(Math.exp(-event.deltaY * 0.0015), event.clientX - box.left, event.clientY - box.top);
    }, { passive: false });
    this.drawing.addEventListener("pointermove", (event) => {
      const near = this.#near(event);
      this.hover.hidden = near === null;
      if (near === null) return;
      const [x, y] = this.at(near);
      const { width } = this.#size();
      this.hover.textContent = currentScan().ids[near];
      this.hover.style.left = `${clamp(x - this.hover.offsetWidth / 2, 4, Math.max(4, width - this.hover.offsetWidth - 4))}px`;
      this.hover.style.top = `${y + (y > 60 ? -30 : 14)}px`;
    });
    this.drawing.addEventListener("pointerleave", () => { this.hover.hidden = true; });
  }
}
