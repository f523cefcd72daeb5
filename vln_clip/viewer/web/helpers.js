// Small helpers that every other file uses: elements, angles, numbers, attention strings.
// Data becomes text nodes and attributes only, never markup.

/** Fill an element: attributes by name, listeners as "onclick", null and false leave an attribute out. */
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Make an HTML element; strings among the children become text. */
function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Make an SVG element. */
function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

/** A tooltip of an SVG element. */
function tip(text) {
  return svg("title", {}, text);
}

function byId(id) {
  return document.getElementById(id);
}

const TURN = 2 * Math.PI;
const DEGREE = Math.PI / 180;

function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}

/** The same angle within [-pi, pi). */
function wrap(angle_rad) {
  return ((((angle_rad + Math.PI) % TURN) + TURN) % TURN) - Math.PI;
}

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

/** A number with fixed decimals and a real minus sign; a dash where there is none. */
function number(value, decimals = 2) {
  return isNumber(value) ? value.toFixed(decimals).replace("-", "−") : "–";
}

function signed(value, decimals = 2) {
  return isNumber(value) && value > 0 ? `+${number(value, decimals)}` : number(value, decimals);
}

/** A probability as percent; what is small but not zero is not shown as zero. */
function percent(probability) {
  if (!isNumber(probability)) return "–";
  const rounded = Math.round(100 * probability);
  return rounded === 0 && probability > 0 ? "<1%" : `${rounded}%`;
}

/** A turn in words: "32° left", "ahead", "behind". */
function turnInWords(relative_rad) {
  const degrees = Math.round(wrap(relative_rad) / DEGREE);
  if (Math.abs(degrees) <= 8) return "ahead";
  if (Math.abs(degrees) >= 172) return "behind";
  return `${Math.abs(degrees)}° ${degrees < 0 ? "left" : "right"}`;
}

const LEVELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const LEVEL_OF = new Map([...LEVELS].map((character, level) => [character, level]));

/** Weights of an attention string: one character of 64 levels per entry, weight = (level / 63)^2; null stays null. */
function attention(text) {
  return text ? Float32Array.from(text, (character) => (LEVEL_OF.get(character) / 63) ** 2) : null;
}

/** The plural-aware count: count(1, "episode") is "1 episode". */
function count(n, noun) {
  return `${n.toLocaleString("en-US")} ${noun}${n === 1 ? "" : "s"}`;
}

/** Call `draw` once before the next frame, however often it was asked for. */
function oncePerFrame(draw) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      draw();
    });
  };
}

/** Follow a pointer (mouse, pen or touch) from press to release; `move` gets the pixels since the last event. */
function onDrag(element, move, click = () => {}) {
  let last = null;
  let travelled = 0;
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    last = [event.clientX, event.clientY];
    travelled = 0;
  });
  element.addEventListener("pointermove", (event) => {
    if (!last) return;
    const [dx, dy] = [event.clientX - last[0], event.clientY - last[1]];
    travelled += Math.abs(dx) + Math.abs(dy);
    if (travelled > 3 && !element.hasPointerCapture(event.pointerId)) element.setPointerCapture(event.pointerId);
    last = [event.clientX, event.clientY];
    if (travelled > 3) move(dx, dy);
  });
  const release = (event) => {
    if (last && travelled <= 3 && event.type === "pointerup") click(event);
    last = null;
  };
  element.addEventListener("pointerup", release);
  element.addEventListener("pointercancel", release);
}
