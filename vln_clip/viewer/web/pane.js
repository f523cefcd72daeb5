// One agent's first-person view: the panorama or the compass, with the moves that can be chosen drawn over it.

/** Vertical field of view for a pane: 72°, more where the pane is so narrow that it would show under 84° across. */
function fieldOfView(size) {
  return clamp(2 * Math.atan((Math.tan(42 * DEGREE) * size.height) / Math.max(1, size.width)), 72 * DEGREE, 96 * DEGREE);
}

const STILL = window.matchMedia("(prefers-reduced-motion: reduce)");

class Pane {
  /** `onChoose(agent, k, title)` hears clicks on moves, `onTurn()` that the camera moved. */
  constructor(agent, onChoose, onTurn) {
    this.agent = agent;
    this.onChoose = onChoose;
    this.onTurn = onTurn;
    this.camera = { heading: 0, elevation: 0, fov: 72 * DEGREE };
    this.zoom = 1;
    this.key = null;
    this.canvas = el("canvas", { "aria-hidden": "true" });
    this.overlay = svg("svg", { class: "pane-overlay", role: "group", "aria-label": "moves that can be chosen" });
    this.caption = el("div", { class: "pane-caption" });
    this.notice = el("p", { class: "pane-notice", hidden: true });
    this.root = el("section", { class: `pane agent-${agent}`, "data-agent": agent },
      this.canvas, this.overlay, this.caption, this.notice);
    this.redraw = oncePerFrame(() => this.#draw());
    this.renderer = null;
    this.broken = !HAS_WEBGL;
    this.#listen();
  }

  /** Show this agent's view at a step: turn there smoothly and fade to the picture of the place. */
  show(smooth) {
    const walk = walkOf(this.agent);
    this.root.classList.toggle("is-empty", !walk);
    if (!walk) {
      this.#say(`${state.agents[this.agent]?.name ?? "This agent"} has no walk on this episode.`);
      this.overlay.replaceChildren();
      this.caption.textContent = "";
      this.canvas.hidden = true;
      return;
    }
    const step = stepWithin(walk, state.step);
    this.decision = decisionAt(currentScan(), walk, step);
    this.turnTo(walk.heading[step], clamp(walk.elevation?.[step] ?? 0, -0.5, 0.5), smooth ? 420 : 0);
    this.#picture(smooth);
    this.#heat();
    this.redraw();
  }

  /** Turn the camera within some milliseconds. */
  turnTo(heading, elevation, duration_ms) {
    const from = { ...this.camera };
    const turn = wrap(heading - from.heading);
    this.#animate("turning", STILL.matches ? 0 : duration_ms, (part) => {
      const eased = part * part * (3 - 2 * part);
      this.camera.heading = wrap(from.heading + turn * eased);
      this.camera.elevation = from.elevation + (elevation - from.elevation) * eased;
    });
  }

  /** Whether the compass is shown, by choice or for lack of a picture. */
  get usesCompass() {
    return state.compass || this.broken || this.key === null;
  }

  #animate(name, duration_ms, advance) {
    const start = performance.now();
    const own = Symbol(name);
    this[name] = own;
    const frame = (now) => {
      if (this[name] !== own) return; // a newer turn took over
      const part = duration_ms > 0 ? clamp((now - start) / duration_ms, 0, 1) : 1;
      advance(part);
      this.redraw();
      if (part < 1) requestAnimationFrame(frame);
    };
    if (duration_ms > 0) requestAnimationFrame(frame);
    else frame(start);
  }

  #say(sentence) {
    this.notice.textContent = sentence ?? "";
    this.notice.hidden = !sentence;
  }

  #picture(smooth) {
    const key = this.broken ? null : Pictures.keyOf(state.episode.scan, this.decision.place);
    const seen = this.key;
    this.key = key;
    this.#say(null);
    if (key === null || key === seen) return;
    Pictures.load(key).then((bitmap) => {
      if (this.key !== key) return; // the walk has gone on meanwhile
      const onLost = () => this.#fail("The browser took the graphics away; the compass stands in.");
      this.renderer ??= new PanoramaCanvas(this.canvas, onLost);
      this.renderer.setPicture(bitmap);
      this.root.dataset.picture = key;
      this.#animate("fading", smooth && seen !== null && !STILL.matches ? 300 : 0, (part) => { this.renderer.fade = part; });
    }).catch((error) => {
      if (this.key !== key) return;
      this.key = null;
      this.#say(`The panorama of this place cannot be shown (${error.message}); the compass stands in.`);
      this.redraw();
    });
  }

  #fail(sentence) {
    this.broken = true;
    this.renderer = null;
    this.#say(sentence);
    this.redraw();
  }

  #heat() {
    const { views, saliency } = this.decision;
    this.heat = null;
    if (state.overlay === "saliency" && saliency) this.heat = Heat.ofSaliency(saliency);
    if (state.overlay === "views" && views) this.heat = Heat.ofViews(views);
  }

  /** What can be chosen here, with directions, shares and looks. */
  #marks() {
    const { decision } = this;
    const scan = currentScan();
    const walk = walkOf(this.agent);
    const step = stepWithin(walk, state.step);
    const reference = referenceNext(state.episode, walk, step);
    return decision.candidates.map((candidate, k) => {
      const direction = directionTo(scan, decision.place, candidate);
      const probability = decision.probabilities?.[k] ?? null;
      const chosen = decision.action === k;
      const isReference = reference === candidate;
      const facts = [scan.ids[candidate], `${turnInWords(direction.heading - walk.heading[step])}, ${number(direction.level_m, 1)} m`];
      if (probability !== null) facts.push(`probability ${number(probability, 3)}`);
      if (chosen) facts.push(decision.forced ? "forced" : "chosen");
      if (isReference) facts.push("the reference goes here");
      return { ...direction, probability, chosen, reference: isReference, title: facts.join(" · "), k, candidate,
        classes: `mark${chosen ? " is-chosen" : ""}${isReference ? " is-reference" : ""}`,
        click: () => this.onChoose(this.agent, k, facts.join(" · ")) };
    });
  }

  #draw() {
    if (!walkOf(this.agent) || !this.decision || !this.root.isConnected) return;
    const size = { width: this.root.clientWidth, height: this.root.clientHeight };
    const compass = this.usesCompass;
    this.camera.fov = Math.min(fieldOfView(size) * this.zoom, 110 * DEGREE);
    this.root.classList.toggle("is-compass", compass);
    this.root.dataset.heading = this.camera.heading.toFixed(3);
    this.root.dataset.elevation = this.camera.elevation.toFixed(3);
    this.canvas.hidden = compass;
    const marks = this.#marks();
    const parts = [];
    if (compass) {
      const { camera, decision } = this;
      parts.push(Compass.draw({ camera, decision, marks, probabilities: decision.probabilities }, size));
    } else {
      this.renderer?.setHeat(this.heat);
      this.renderer?.draw(this.camera);
      const turnTo = (...where) => this.turnTo(...where);
      parts.push(...Arrows.draw(this.camera, size, marks, turnTo), ...Arrows.heatHint(this.camera, size, this.heat, turnTo),
        Arrows.ribbon(this.camera, size, marks, this.heat));
    }
    parts.push(this.#stopMark(size));
    this.overlay.setAttribute("viewBox", `0 0 ${size.width} ${size.height}`);
    this.overlay.replaceChildren(...parts);
    this.#captionText();
    this.onTurn();
  }

  #stopMark(size) {
    const { decision } = this;
    const walk = walkOf(this.agent);
    const reference = referenceNext(state.episode, walk, stepWithin(walk, state.step)) === "stop";
    return Arrows.stop(size, {
      chosen: decision.action === decision.candidates.length, reference,
      probability: decision.probabilities?.at(-1) ?? null,
      click: () => this.onChoose(this.agent, decision.candidates.length, "stop here"),
    }, !this.usesCompass);
  }

  #captionText() {
    const scan = currentScan();
    const walk = walkOf(this.agent);
    const id = scan.ids[this.decision.place];
    const step = stepWithin(walk, state.step);
    const over = state.step >= walk.viewpoints.length ? " · ended" : "";
    this.caption.replaceChildren(
      el("span", { class: `agent-chip agent-${this.agent}` }, LETTERS[this.agent]),
      el("span", { class: "pane-name" }, state.agents[this.agent]?.name ?? ""),
      el("span", { class: "muted", title: id }, `step ${step + 1} of ${walk.viewpoints.length}${over}`));
  }

  #listen() {
    onDrag(this.overlay, (dx, dy) => {
      this.turning = null;
      const perPixel = this.usesCompass ? 0.01 : this.camera.fov / Math.max(1, this.root.clientHeight);
      this.camera.heading = wrap(this.camera.heading - dx * perPixel);
      this.camera.elevation = clamp(this.camera.elevation + dy * perPixel, -1.4, 1.4);
      this.redraw();
    });
    this.overlay.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom = clamp(this.zoom * Math.exp(event.deltaY * 0.001), 0.35, 1.4);
      this.redraw();
    }, { passive: false });
    this.root.addEventListener("pointerdown", () => change({ focus: this.agent }));
    new ResizeObserver(() => this.redraw()).observe(this.root);
  }
}
