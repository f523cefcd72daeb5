// Draws an equirectangular picture as seen by a camera, with WebGL 2. Knows pictures and cameras, nothing of walks.

const VERTEX = `#version 300 es
in vec2 corner;
out vec2 at;
void main() { at = corner; gl_Position = vec4(corner, 0.0, 1.0); }`;

// A picture's middle column looks along heading 0 (+y), headings grow to the right, its first row looks straight up.
const FRAGMENT = `#version 300 es
precision highp float;
in vec2 at;
out vec4 color;
uniform vec3 forward, right, up;
uniform vec2 slope;
uniform float fade, heatAmount;
uniform sampler2D before, now, heat;
const float PI = 3.14159265358979;
vec3 ramp(float t) {
  return t < 0.5 ? mix(vec3(0.35, 0.04, 0.42), vec3(0.93, 0.33, 0.23), t * 2.0)
                 : mix(vec3(0.93, 0.33, 0.23), vec3(1.0, 0.93, 0.45), t * 2.0 - 1.0);
}
void main() {
  vec3 ray = normalize(forward + at.x * slope.x * right + at.y * slope.y * up);
  vec2 place = vec2(atan(ray.x, ray.y) / (2.0 * PI) + 0.5, 0.5 - asin(clamp(ray.z, -1.0, 1.0)) / PI);
  vec3 seen = mix(texture(before, place).rgb, texture(now, place).rgb, fade);
  float warmth = texture(heat, place).r;
  vec3 dimmed = mix(seen, vec3(dot(seen, vec3(0.3, 0.59, 0.11))) * 0.6, 0.7 * heatAmount);
  color = vec4(mix(dimmed, mix(seen, ramp(warmth), 0.62), heatAmount * smoothstep(0.06, 0.75, warmth)), 1.0);
}`;

/** Whether this browser can draw panoramas. */
const HAS_WEBGL = (() => {
  const context = document.createElement("canvas").getContext("webgl2");
  context?.getExtension("WEBGL_lose_context")?.loseContext();
  return Boolean(context);
})();

class PanoramaCanvas {
  constructor(canvas, onLost) {
    this.canvas = canvas;
    this.gl = canvas.getContext("webgl2", { antialias: false, preserveDrawingBuffer: true });
    canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault();
      onLost();
    });
    this.program = this.#link();
    this.textures = { before: this.#texture(), now: this.#texture(), heat: this.#texture() };
    this.heatAmount = 0;
    this.fade = 1;
  }

  /** Take a new picture; the old one fades out while `fade` goes from 0 to 1. */
  setPicture(bitmap) {
    const { gl, textures } = this;
    [textures.before, textures.now] = [textures.now, textures.before];
    gl.bindTexture(gl.TEXTURE_2D, textures.now);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
    this.fade = 0;
  }

  /** Take a heat map {width, height, data: bytes}, or null for none. */
  setHeat(map) {
    this.heatAmount = map ? 1 : 0;
    if (!map) return;
    const { gl } = this;
    gl.bindTexture(gl.TEXTURE_2D, this.textures.heat);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.R8, map.width, map.height, 0, gl.RED, gl.UNSIGNED_BYTE, map.data);
  }

  /** Draw as seen by a camera {heading, elevation, fov}; fov is vertical, all in radians. */
  draw(camera) {
    const { gl, canvas, program } = this;
    const scale = Math.min(window.devicePixelRatio || 1, 2);
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((px) => Math.max(1, Math.round(px * scale)));
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    gl.viewport(0, 0, width, height);
    const { forward, right, up } = cameraAxes(camera);
    const half = Math.tan(camera.fov / 2);
    gl.uniform3fv(gl.getUniformLocation(program, "forward"), forward);
    gl.uniform3fv(gl.getUniformLocation(program, "right"), right);
    gl.uniform3fv(gl.getUniformLocation(program, "up"), up);
    gl.uniform2f(gl.getUniformLocation(program, "slope"), (half * width) / height, half);
    gl.uniform1f(gl.getUniformLocation(program, "fade"), this.fade);
    gl.uniform1f(gl.getUniformLocation(program, "heatAmount"), this.heatAmount);
    ["before", "now", "heat"].forEach((name, unit) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, this.textures[name]);
      gl.uniform1i(gl.getUniformLocation(program, name), unit);
    });
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  #link() {
    const { gl } = this;
    const program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    gl.useProgram(program);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 3, -1, -1, 3]), gl.STATIC_DRAW); // one triangle covers all
    const corner = gl.getAttribLocation(program, "corner");
    gl.enableVertexAttribArray(corner);
    gl.vertexAttribPointer(corner, 2, gl.FLOAT, false, 0, 0);
    return program;
  }

  #texture() {
    const { gl } = this;
    const texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.REPEAT);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.LINEAR);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 1, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array([40, 42, 46, 255]));
    return texture;
  }
}

/** Axes of a camera as unit vectors. */
function cameraAxes(camera) {
  return {
    forward: Heat.vectorOf(camera.heading, camera.elevation),
    right: [Math.cos(camera.heading), -Math.sin(camera.heading), 0],
    up: Heat.vectorOf(camera.heading, camera.elevation + Math.PI / 2),
  };
}

/** Where a direction appears on a screen of the given size: pixels, or null behind the camera. */
function project(camera, size, heading, elevation) {
  const ray = Heat.vectorOf(heading, elevation);
  const { forward, right, up } = cameraAxes(camera);
  const along = (axis) => ray[0] * axis[0] + ray[1] * axis[1] + ray[2] * axis[2];
  const depth = along(forward);
  if (depth < 0.05) return null;
  const focal_px = size.height / 2 / Math.tan(camera.fov / 2);
  return { x: size.width / 2 + (focal_px * along(right)) / depth, y: size.height / 2 - (focal_px * along(up)) / depth };
}
