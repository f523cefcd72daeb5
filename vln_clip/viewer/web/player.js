// Playing a walk: a clock that looks where the walk goes next, then steps; buttons, scrubber and speed.

const DWELL_MS = 1500; // at speed 1, how long a step stays
const LOOK_MS = 550;   // the end of it in which the camera turns to where the agent goes

const Player = (() => {
  let timers = [];

  function stopClock() {
    timers.forEach(clearTimeout);
    timers = [];
  }

  function atEnd() {
    return !state.episode || state.step >= numPlaces(state.episode) - 1;
  }

  /** Turn every pane towards the next place of its walk. */
  function lookAhead() {
    for (const pane of panes) {
      const walk = walkOf(pane.agent);
      if (!walk || state.step + 1 >= walk.viewpoints.length) continue;
      const { heading, elevation } = directionTo(currentScan(), walk.viewpoints[state.step], walk.viewpoints[state.step + 1]);
      pane.turnTo(heading, clamp(elevation, -0.4, 0.4), LOOK_MS / state.speed);
    }
  }

  function schedule() {
    stopClock();
    if (!state.playing) return;
    if (atEnd()) {
      change({ playing: false });
      return;
    }
    const dwell_ms = DWELL_MS / state.speed;
    timers = [setTimeout(lookAhead, dwell_ms - LOOK_MS / state.speed), setTimeout(() => goTo(state.step + 1), dwell_ms)];
  }

  /** Play, from the start again where the walk was at its end; or pause. */
  function toggle() {
    if (!state.playing && atEnd()) goTo(0);
    change({ playing: !state.playing });
  }

  /** Go some steps forward or back, by hand: playing ends. */
  function step(by) {
    change({ playing: false });
    goTo(state.step + by);
  }

  function draw() {
    const places = state.episode ? numPlaces(state.episode) : 1;
    byId("play").textContent = state.playing ? "Pause" : "Play";
    byId("play").setAttribute("aria-pressed", String(state.playing));
    byId("scrubber").max = String(places - 1);
    byId("scrubber").value = String(state.step);
    byId("step-label").textContent = `${state.step + 1} / ${places}`;
    byId("back").disabled = byId("first").disabled = state.step === 0;
    byId("forward").disabled = byId("last").disabled = state.step >= places - 1;
  }

  function connect() {
    byId("play").addEventListener("click", toggle);
    byId("back").addEventListener("click", () => step(-1));
    byId("forward").addEventListener("click", () => step(1));
    byId("first").addEventListener("click", () => step(-Infinity));
    byId("last").addEventListener("click", () => step(Infinity));
    byId("scrubber").addEventListener("input", (event) => {
      change({ playing: false });
      goTo(Number(event.target.value));
    });
    byId("speed").addEventListener("change", (event) => change({ speed: Number(event.target.value) }));
    onChange((changed) => {
      if (["step", "playing", "speed", "episode"].some((name) => changed.has(name))) schedule();
      draw();
    });
  }

  return { connect, toggle, step };
})();
