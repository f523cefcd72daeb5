// Heat over the sphere: attention over the 36 views, or saliency inside each view, as one equirectangular map.

const Heat = (() => {
  const WIDTH = 192;
  const HEIGHT = 96;
  const TILE_RAD = 17 * DEGREE; // soft radius of a view's tile; views are 30° apart

  /** The unit vector of a direction: x east, y north, z up. */
  function vectorOf(heading, elevation) {
    const level = Math.cos(elevation);
    return [Math.sin(heading) * level, Math.cos(heading) * level, Math.sin(elevation)];
  }

  const VIEWS = Array.from({ length: 36 }, (_, v) => {
    const { heading, elevation } = directionOfView(v);
    const forward = vectorOf(heading, elevation);
    return { forward, right: [Math.cos(heading), -Math.sin(heading), 0], up: vectorOf(heading, elevation + Math.PI / 2) };
  });

  function dot(a, b) {
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  }

  /**
   * Fill a map by direction, then stretch it so that its strongest place is 255. `peak` is where that is, null where
   * all is 0; `columns` the strongest of each heading, 0 to 1.
   */
  function paint(valueOf) {
    const values = new Float32Array(WIDTH * HEIGHT);
    let strongest = 0;
    let peak = { heading: 0, elevation: 0 };
    const columns = new Float32Array(WIDTH); // strongest of each heading
    for (let row = 0; row < HEIGHT; row += 1) {
      const elevation = Math.PI / 2 - ((row + 0.5) * Math.PI) / HEIGHT;
      for (let column = 0; column < WIDTH; column += 1) {
        const heading = ((column + 0.5) * TURN) / WIDTH - Math.PI;
        const value = valueOf(vectorOf(heading, elevation));
        values[row * WIDTH + column] = value;
        columns[column] = Math.max(columns[column], value);
        if (value > strongest) [strongest, peak] = [value, { heading, elevation }];
      }
    }
    const scale = strongest > 0 ? 255 / strongest : 0;
    return { width: WIDTH, height: HEIGHT, data: Uint8Array.from(values, (value) => value * scale),
      peak: strongest > 0 ? peak : null, columns: columns.map((value) => (value * scale) / 255) };
  }

  /** Map of the attention over views: (36,) weights. */
  function ofViews(weights) {
    return paint((ray) => {
      let value = 0;
      for (let v = 0; v < 36; v += 1) {
        const angle = Math.acos(clamp(dot(ray, VIEWS[v].forward), -1, 1));
        if (angle < 3 * TILE_RAD) value += weights[v] * Math.exp(-0.5 * (angle / (TILE_RAD * 0.75)) ** 2);
      }
      return value;
    });
  }

  /** Map of saliency: per view a grid of h x w cells, 60° high and as wide as it has cells; overlaps are averaged. */
  function ofSaliency(saliency) {
    const { height, width } = saliency;
    const values = attention(saliency.data);
    const half = Math.tan(30 * DEGREE);
    return paint((ray) => {
      let [value, weight] = [0, 0];
      for (let v = 0; v < 36; v += 1) {
        const depth = dot(ray, VIEWS[v].forward);
        if (depth <= 0.5) continue;
        const x = dot(ray, VIEWS[v].right) / depth / (half * width / height);
        const y = -dot(ray, VIEWS[v].up) / depth / half;
        if (Math.abs(x) >= 1 || Math.abs(y) >= 1) continue;
        const near = (1 - Math.abs(x)) * (1 - Math.abs(y)) + 1e-3;
        const cell = Math.floor(((y + 1) / 2) * height) * width + Math.floor(((x + 1) / 2) * width);
        value += near * values[v * height * width + cell];
        weight += near;
      }
      return weight > 0 ? value / weight : 0;
    });
  }

  return { ofViews, ofSaliency, vectorOf };
})();
