// The compass: candidates around the agent by relative heading, where there is no picture or none is wanted.
// Up is where the camera looks. Outside: attention over the 36 views, three rings from 30° down to 30° up.

const Compass = (() => {
  /** Point at a distance from the middle; relative heading 0 is up, clockwise. */
  function at(relative, radius) {
    return [Math.sin(relative) * radius, -Math.cos(relative) * radius];
  }

  function points(...pairs) {
    return pairs.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
  }

  /** Outline of a ring's piece. */
  function cell(from, to, inner, outer) {
    const [a, b, c, d] = [at(from, inner), at(from, outer), at(to, outer), at(to, inner)];
    return `M${points(a)} L${points(b)} A${outer} ${outer} 0 0 1 ${points(c)} L${points(d)} A${inner} ${inner} 0 0 0 ${points(a)}Z`;
  }

  function rings(view, radius) {
    const group = svg("g", { class: "compass-rings" });
    const strongest = Math.max(...view.decision.views, 1e-9);
    const thick = radius * 0.07;
    for (let v = 0; v < 36; v += 1) {
      const relative = directionOfView(v).heading - view.camera.heading;
      const inner = radius * 0.78 + Math.floor(v / 12) * thick;
      const weight = view.decision.views[v];
      const degrees = (Math.floor(v / 12) - 1) * 30;
      const shape = svg("path", { d: cell(relative - 14.2 * DEGREE, relative + 14.2 * DEGREE, inner, inner + thick * 0.86) },
        tip(`view ${v}, ${turnInWords(relative)}, ${signed(degrees, 0)}°: attention ${number(weight, 3)}`));
      shape.classList.add("ring-cell");
      shape.setAttribute("fill-opacity", (0.07 + 0.93 * (weight / strongest)).toFixed(3));
      group.append(shape);
    }
    return group;
  }

  /** One candidate: a spoke as long as its probability, a dot, its share; a hat or a foot where it lies up or down. */
  function spoke(view, mark, radius) {
    const relative = mark.heading - view.camera.heading;
    const share = mark.probability ?? (mark.chosen ? 1 : 0);
    const [inner, outer] = [radius * 0.2, radius * 0.56];
    const [from, full, end] = [at(relative, inner), at(relative, outer), at(relative, inner + (outer - inner) * share)];
    const [dx, dy] = at(relative, radius * 0.66);
    const steep = mark.elevation > 8 * DEGREE ? "▲" : mark.elevation < -8 * DEGREE ? "▼" : "";
    const group = svg("g", { class: mark.classes, tabindex: 0, role: "button", "aria-label": mark.title, "data-candidate": mark.k,
      onclick: mark.click, onkeydown: (event) => event.key === "Enter" && mark.click() }, tip(mark.title));
    group.append(
      svg("line", { class: "spoke-rail", x1: from[0], y1: from[1], x2: full[0], y2: full[1] }),
      svg("line", { class: "spoke-bar", x1: from[0], y1: from[1], x2: end[0], y2: end[1] }));
    if (mark.reference) group.append(svg("circle", { class: "mark-reference", cx: dx, cy: dy, r: 17 }));
    group.append(
      svg("circle", { class: "mark-disc", cx: dx, cy: dy, r: 13 }),
      svg("text", { class: "mark-label", x: dx, y: dy + 3.5 }, view.probabilities ? percent(mark.probability) : mark.chosen ? "✓" : ""));
    if (steep) group.append(svg("text", { class: "mark-steep", x: dx + 18, y: dy - 8 }, steep));
    return group;
  }

  /** The compass for a view {camera, decision, marks, probabilities} on a screen of the given size. */
  function draw(view, size) {
    const room = Math.max(60, Math.min(size.width / 2, (size.height - 62) / 2) - 6);
    const radius = view.decision.views ? room : room / 0.82; // no rings without attention
    const middle = svg("g", { transform: `translate(${size.width / 2} ${(size.height - 24) / 2})` });
    const fan = cell(-35 * DEGREE, 35 * DEGREE, 0.01, radius * 0.74);
    middle.append(
      svg("circle", { class: "compass-face", r: radius * 0.75 }),
      svg("path", { class: "compass-fan", d: fan }),
      ...(view.decision.views ? [rings(view, radius)] : []));
    for (const [name, heading] of [["N", 0], ["E", 90], ["S", 180], ["W", 270]]) {
      const [x, y] = at(heading * DEGREE - view.camera.heading, radius * 0.47);
      middle.append(svg("text", { class: "compass-point", x, y: y + 4 }, name));
    }
    for (const mark of view.marks) middle.append(spoke(view, mark, radius));
    middle.append(svg("path", { class: "compass-agent", d: "M0,-12 L8,9 L0,4.5 L-8,9 Z" }));
    return middle;
  }

  return { draw };
})();
