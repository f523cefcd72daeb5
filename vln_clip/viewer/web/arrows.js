// Moves drawn over a panorama: discs on the floor where they lead, shares above them; at the edges those out of sight;
// below a ribbon of all headings.

const Arrows = (() => {
  /** Discs, farthest first, each with an arrow and its share; pills at the edges for the moves out of sight. */
  function draw(camera, size, marks, turnTo) {
    const shown = [];
    const hidden = { left: [], right: [] };
    for (const mark of [...marks].sort((a, b) => b.level_m - a.level_m)) {
      const down = Math.atan2(mark.rise_m - CAMERA_HEIGHT_M * 0.8, Math.max(mark.level_m, 0.6));
      const spot = project(camera, size, mark.heading, Math.max(down, -0.45));
      if (spot) spot.y = Math.min(spot.y, size.height - (spot.x > size.width - 116 ? 78 : 46)); // above ribbon and stop
      if (!spot || spot.x < 24 || spot.x > size.width - 24) {
        hidden[wrap(mark.heading - camera.heading) < 0 ? "left" : "right"].push(mark);
      } else shown.push(disc(mark, spot, clamp(62 / Math.max(mark.level_m, 1.2), 13, 30)));
    }
    return [...shown, ...edge(hidden.left, "left", size, turnTo), ...edge(hidden.right, "right", size, turnTo)];
  }

  /** Moves out of sight on one side, most probable on top; a click turns there. The unlikely ones only the ribbon has. */
  function edge(marks, side, size, turnTo) {
    const worth = (mark) => (mark.probability ?? 0) + (mark.chosen ? 2 : 0) + (mark.reference ? 1 : 0);
    const fits = Math.max(1, Math.min(3, Math.floor((size.height - 130) / 30)));
    const sorted = marks.sort((a, b) => worth(b) - worth(a)).slice(0, fits);
    return sorted.filter((mark, i) => i === 0 || mark.probability === null || worth(mark) >= 0.01).map((mark, i) => {
      const share = mark.probability === null ? "" : percent(mark.probability);
      const label = side === "left" ? `‹ ${share}` : `${share} ›`;
      const width = 16 + 6.6 * label.length;
      const x = side === "left" ? width / 2 + 8 : size.width - width / 2 - 8;
      const turn = () => turnTo(mark.heading, clamp(mark.elevation, -0.4, 0.4), 420);
      const group = svg("g", { class: `${mark.classes} mark-edge`, transform: `translate(${x} ${size.height * 0.42 + i * 30})`,
        tabindex: 0, role: "button", "aria-label": `turn to: ${mark.title}`, onclick: turn,
        onkeydown: (event) => event.key === "Enter" && turn() }, tip(`${mark.title} · click to turn there`));
      if (mark.reference) group.append(svg("rect", { class: "mark-reference", x: -width / 2 - 2, y: -13, width: width + 4, height: 25, rx: 12.5 }));
      group.append(pill(label, 0, 0));
      return group;
    });
  }

  function disc(mark, spot, radius) {
    const label = mark.probability === null ? (mark.chosen ? "next" : "") : percent(mark.probability);
    const flat = radius * 0.46;
    const group = svg("g", { class: mark.classes, transform: `translate(${spot.x.toFixed(1)} ${spot.y.toFixed(1)})`,
      tabindex: 0, role: "button", "aria-label": mark.title, "data-candidate": mark.k, onclick: mark.click,
      onkeydown: (event) => event.key === "Enter" && mark.click() }, tip(mark.title));
    if (mark.reference) group.append(svg("ellipse", { class: "mark-reference", rx: radius + 6, ry: flat + 4 }));
    group.append(
      svg("ellipse", { class: "mark-disc", rx: radius, ry: flat }),
      svg("path", { class: "mark-arrow", d: `M${-radius * 0.45},${flat * 0.4} L0,${-flat * 0.5} L${radius * 0.45},${flat * 0.4}` }));
    if (label) group.append(pill(label, 0, -flat - 15));
    return group;
  }

  function pill(label, x, y) {
    const width = 14 + 6.6 * label.length;
    return svg("g", { class: "mark-pill", transform: `translate(${x} ${y})` },
      svg("rect", { x: -width / 2, y: -10, width, height: 19, rx: 9.5 }),
      svg("text", { class: "mark-label", y: 4 }, label));
  }

  /** Where the strongest heat is, if it cannot be seen; a click turns there. */
  function heatHint(camera, size, heat, turnTo) {
    if (!heat?.peak) return [];
    const spot = project(camera, size, heat.peak.heading, heat.peak.elevation);
    if (spot && spot.x > 0 && spot.x < size.width && spot.y > 0 && spot.y < size.height) return [];
    const turn = wrap(heat.peak.heading - camera.heading);
    const label = spot && spot.x > 0 && spot.x < size.width ? (spot.y <= 0 ? "heat ˄" : "heat ˅") : turn < 0 ? "‹ heat" : "heat ›";
    const width = 16 + 6.6 * label.length;
    const x = turn < 0 ? width / 2 + 8 : size.width - width / 2 - 8;
    const act = () => turnTo(heat.peak.heading, clamp(heat.peak.elevation, -0.6, 0.6), 420);
    return [svg("g", { class: "mark mark-heat", transform: `translate(${x} ${size.height * 0.42 - 34})`, tabindex: 0, role: "button",
      "aria-label": "turn to the strongest heat", onclick: act, onkeydown: (event) => event.key === "Enter" && act() },
    tip(`the strongest heat is ${turnInWords(turn)} · click to turn there`), pill(label, 0, 0))];
  }

  /** All headings in one line: heat, ticks of the moves, the part on the screen; the middle is straight ahead. */
  function ribbon(camera, size, marks, heat) {
    const width = Math.min(size.width - 28, 420);
    const [left, y] = [(size.width - width) / 2, size.height - 12];
    const at = (heading) => left + width / 2 + (wrap(heading - camera.heading) / TURN) * width;
    const half = Math.atan(Math.tan(camera.fov / 2) * (size.width / size.height));
    const group = svg("g", { class: "ribbon" },
      svg("rect", { class: "ribbon-rail", x: left, y: y - 5, width, height: 10, rx: 5 }),
      svg("rect", { class: "ribbon-seen", x: at(camera.heading - half), y: y - 5, width: (width * half) / Math.PI, height: 10, rx: 5 }));
    heat?.columns.forEach((value, column) => {
      if (value < 0.25) return;
      const x = at(((column + 0.5) / heat.columns.length) * TURN - Math.PI);
      group.append(svg("rect", { class: "ribbon-heat", x, y: y - 5, width: width / heat.columns.length + 0.5, height: 10, opacity: value ** 2 }));
    });
    for (const mark of marks) {
      const tall = 3 + 6 * (mark.probability ?? (mark.chosen ? 1 : 0));
      group.append(svg("line", { class: `ribbon-tick ${mark.classes}`, x1: at(mark.heading), x2: at(mark.heading), y1: y - tall, y2: y + tall }));
    }
    return group;
  }

  /** To stop, which has no direction: in the corner over a picture, below the compass. */
  function stop(size, mark, corner) {
    const label = mark.probability === null ? "stop" : `stop ${percent(mark.probability)}`;
    const title = mark.probability === null ? "stop here" : `stop here · probability ${number(mark.probability, 3)}`;
    const x = corner ? size.width - 10 - (14 + 6.6 * label.length) / 2 : size.width / 2;
    const y = size.height - (corner ? 38 : 24);
    const group = svg("g", { class: `mark mark-stop${mark.chosen ? " is-chosen" : ""}${mark.reference ? " is-reference" : ""}`,
      transform: `translate(${x} ${y})`, tabindex: 0, role: "button", "aria-label": title,
      onclick: mark.click, onkeydown: (event) => event.key === "Enter" && mark.click() }, tip(title));
    const shape = pill(label, 0, 0);
    if (mark.reference) {
      const width = 20 + 6.6 * label.length;
      group.append(svg("rect", { class: "mark-reference", x: -width / 2, y: -13, width, height: 25, rx: 12.5 }));
    }
    group.append(shape);
    return group;
  }

  return { draw, heatHint, ribbon, stop };
})();
