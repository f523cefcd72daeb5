// Moves drawn over a panorama: discs on the floor where they lead, shares above them, a ribbon of all headings below.

const Arrows = (() => {
  /** Discs, farthest first, each with an arrow and its share; those behind the camera are left to the ribbon. */
  function draw(camera, size, marks) {
    const shown = [];
    for (const mark of [...marks].sort((a, b) => b.level_m - a.level_m)) {
      const down = Math.atan2(mark.rise_m - CAMERA_HEIGHT_M * 0.8, Math.max(mark.level_m, 0.6));
      const spot = project(camera, size, mark.heading, Math.max(down, -0.62));
      if (!spot || spot.x < -40 || spot.x > size.width + 40) continue;
      shown.push(disc(mark, spot, clamp(62 / Math.max(mark.level_m, 1.2), 13, 30)));
    }
    return shown;
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

  /** All headings in one line: ticks of the moves, the part that is on the screen; the middle is straight ahead. */
  function ribbon(camera, size, marks) {
    const width = Math.min(size.width - 28, 420);
    const [left, y] = [(size.width - width) / 2, size.height - 12];
    const at = (heading) => left + width / 2 + (wrap(heading - camera.heading) / TURN) * width;
    const half = Math.atan(Math.tan(camera.fov / 2) * (size.width / size.height));
    const group = svg("g", { class: "ribbon" },
      svg("rect", { class: "ribbon-rail", x: left, y: y - 5, width, height: 10, rx: 5 }),
      svg("rect", { class: "ribbon-seen", x: at(camera.heading - half), y: y - 5, width: (width * half) / Math.PI, height: 10, rx: 5 }));
    for (const mark of marks) {
      const tall = 3 + 6 * (mark.probability ?? (mark.chosen ? 1 : 0));
      group.append(svg("line", { class: `ribbon-tick ${mark.classes}`, x1: at(mark.heading), x2: at(mark.heading), y1: y - tall, y2: y + tall }));
    }
    return group;
  }

  /** To stop, which has no direction. */
  function stop(size, mark) {
    const label = mark.probability === null ? "stop" : `stop ${percent(mark.probability)}`;
    const title = mark.probability === null ? "stop here" : `stop here · probability ${number(mark.probability, 3)}`;
    const group = svg("g", { class: `mark mark-stop${mark.chosen ? " is-chosen" : ""}${mark.reference ? " is-reference" : ""}`,
      transform: `translate(${size.width / 2} ${size.height - 36})`, tabindex: 0, role: "button", "aria-label": title,
      onclick: mark.click, onkeydown: (event) => event.key === "Enter" && mark.click() }, tip(title));
    const shape = pill(label, 0, 0);
    if (mark.reference) {
      const width = 20 + 6.6 * label.length;
      group.append(svg("rect", { class: "mark-reference", x: -width / 2, y: -13, width, height: 25, rx: 12.5 }));
    }
    group.append(shape);
    return group;
  }

  return { draw, ribbon, stop };
})();
