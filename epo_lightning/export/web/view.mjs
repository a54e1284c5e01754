// The geoms of a scene by WebGL 2, with a shadow; the mouse turns and zooms.
const PLANE = 0, SPHERE = 2, CAPSULE = 3, CYLINDER = 5, BOX = 6;
const SHADOW = 1024, SKY = [0.86, 0.91, 0.96];
const SUN = unit([-0.35, -0.45, 0.82]);

const VERTEX = `#version 300 es
in vec3 place; in vec3 normal; in float end;
uniform mat4 camera, sun; uniform mat3 turn; uniform vec3 shift, scale; uniform float half_length;
out vec3 at, facing; out vec4 lit;
void main() {
  vec3 local = place * scale + vec3(0., 0., end * half_length);
  at = turn * local + shift;
  facing = turn * (normal / scale);
  lit = sun * vec4(at, 1.);
  gl_Position = camera * vec4(at, 1.);
}`;
const FRAGMENT = `#version 300 es
precision highp float; precision highp sampler2DShadow;
in vec3 at, facing; in vec4 lit;
uniform vec3 eye, light, sky; uniform vec4 colour; uniform sampler2DShadow shadow; uniform int ground;
out vec4 seen;
void main() {
  vec3 n = normalize(facing), view = normalize(eye - at), base = colour.rgb;
  if (ground == 1) {
    vec2 tile = floor(at.xy * 2.);
    base *= mod(tile.x + tile.y, 2.) < .5 ? 1. : .94;
  }
  vec3 p = lit.xyz / lit.w * .5 + .5;
  float bright = 0.;
  for (int i = -1; i <= 1; i++) for (int j = -1; j <= 1; j++)
    bright += texture(shadow, vec3(p.xy + vec2(i, j) / ${SHADOW}., p.z - .002)) / 9.;
  if (any(lessThan(p, vec3(0.))) || any(greaterThan(p, vec3(1.)))) bright = 1.;
  float direct = max(dot(n, light), 0.) * bright, head = max(dot(n, view), 0.);
  float glint = pow(max(dot(n, normalize(light + view)), 0.), 40.) * .18 * bright * float(1 - ground);
  vec3 shown = base * (.42 + .12 * n.z + .2 * head + .48 * direct) + glint;
  float far = ground == 1 ? smoothstep(2.5, 7., length(at.xy)) : 0.;
  seen = vec4(mix(shown, sky, far), colour.a);
}`;
const SHADE = `#version 300 es
precision highp float; out vec4 seen; void main() { seen = vec4(1.); }`;

function unit(v) {
  const length = Math.hypot(...v);
  return v.map((x) => x / length);
}
const cross = ([a, b, c], [x, y, z]) => [b * z - c * y, c * x - a * z, a * y - b * x];
const dot = (v, w) => v.reduce((sum, x, k) => sum + x * w[k], 0);
const minus = (v, w) => v.map((x, k) => x - w[k]);

/** Column-major matrices, as WebGL wants them. */
const product = (m, n) =>
  Array.from({ length: 16 }, (_, k) => [0, 1, 2, 3].reduce((sum, i) => sum + m[i * 4 + (k % 4)] * n[(k >> 2) * 4 + i], 0));
function looking(eye, target) {
  const back = unit(minus(eye, target)), right = unit(cross([0, 0, 1], back)), up = cross(back, right);
  return [0, 1, 2].flatMap((k) => [right[k], up[k], back[k], 0]).concat([-dot(right, eye), -dot(up, eye), -dot(back, eye), 1]);
}
function perspective(angle, aspect, near, far) {
  const f = 1 / Math.tan(angle / 2), depth = near - far;
  return [f / aspect, 0, 0, 0, 0, f, 0, 0, 0, 0, (far + near) / depth, -1, 0, 0, (2 * far * near) / depth, 0];
}
const parallel = (reach, near, far) =>
  [1 / reach, 0, 0, 0, 0, 1 / reach, 0, 0, 0, 0, -2 / (far - near), 0, 0, 0, -(far + near) / (far - near), 1];

/** Triangles of unit shapes: place (3), normal (3), and to which end of a long shape a corner belongs (1). */
function shapes() {
  const quad = (corners, normal, end = [0, 0, 0, 0]) =>
    [0, 1, 2, 0, 2, 3].flatMap((k) => [...corners[k], ...(normal ?? corners[k]), end[k]]);
  const box = [];
  for (let axis = 0; axis < 3; axis++) {
    for (const side of [-1, 1]) {
      const corner = (a, b) => { const v = [0, 0, 0]; v[axis] = side; v[(axis + 1) % 3] = a; v[(axis + 2) % 3] = b; return v; };
      box.push(...quad([corner(-1, -1), corner(1, -1), corner(1, 1), corner(-1, 1)], corner(0, 0)));
    }
  }
  const round = 28, rings = 14, ball = [], tube = [], caps = [];
  const rim = (k, z = 0) => [Math.cos((2 * Math.PI * k) / round), Math.sin((2 * Math.PI * k) / round), z];
  const onBall = (i, k) => { const up = Math.PI * (i / rings - 0.5), c = Math.cos(up); return [c * rim(k)[0], c * rim(k)[1], Math.sin(up)]; };
  for (let k = 0; k < round; k++) {
    for (let i = 0; i < rings; i++) {
      const end = i < rings / 2 ? -1 : 1;
      ball.push(...quad([onBall(i, k), onBall(i, k + 1), onBall(i + 1, k + 1), onBall(i + 1, k)], null, [end, end, end, end]));
    }
    tube.push(...quad([rim(k), rim(k + 1), rim(k + 1), rim(k)], null, [-1, -1, 1, 1]));
    for (const side of [-1, 1]) caps.push(...quad([[0, 0, side], rim(k, side), rim(k + 1, side), [0, 0, side]], [0, 0, side]));
  }
  const side = [];
  for (let k = 0; k < tube.length; k += 7) side.push(tube[k], tube[k + 1], tube[k + 6], tube[k], tube[k + 1], 0, 0);
  const plane = quad([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], [0, 0, 1]);
  return { [PLANE]: plane, [SPHERE]: ball, [CAPSULE]: [...ball, ...tube], [CYLINDER]: [...side, ...caps], [BOX]: box };
}

export class View {
  constructor(canvas, camera) {
    const gl = canvas.getContext("webgl2", { antialias: true });
    if (!gl) throw new Error("this browser has no WebGL 2");
    Object.assign(this, { canvas, gl });
    const away = minus(camera.position, camera.target);
    Object.assign(this, { target: camera.target, angle: camera.angle, distance: Math.hypot(...away) });
    this.turned = Math.atan2(away[1], away[0]);
    this.raised = Math.asin(away[2] / this.distance);
    this.full = this.program(FRAGMENT);
    this.dark = this.program(SHADE);
    this.upload();
    this.shadowMap();
    this.listen();
  }

  program(fragment) {
    const { gl } = this, program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    ["place", "normal", "end"].forEach((name, k) => gl.bindAttribLocation(program, k, name));
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(`WebGL: ${gl.getProgramInfoLog(program)}`);
    const places = {};
    for (let k = 0; k < gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS); k++) {
      const { name } = gl.getActiveUniform(program, k);
      places[name] = gl.getUniformLocation(program, name);
    }
    return { program, places };
  }

  upload() {
    const { gl } = this, all = [];
    this.ranges = {};
    for (const [kind, values] of Object.entries(shapes())) {
      this.ranges[kind] = [all.length / 7, values.length / 7];
      for (const value of values) all.push(value);
    }
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(all), gl.STATIC_DRAW);
    [[3, 0], [3, 12], [1, 24]].forEach(([size, offset], k) => {
      gl.enableVertexAttribArray(k);
      gl.vertexAttribPointer(k, size, gl.FLOAT, false, 28, offset);
    });
  }

  shadowMap() {
    const { gl } = this, texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.DEPTH_COMPONENT24, SHADOW, SHADOW);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_COMPARE_MODE, gl.COMPARE_REF_TO_TEXTURE);
    for (const name of ["TEXTURE_MIN_FILTER", "TEXTURE_MAG_FILTER"]) gl.texParameteri(gl.TEXTURE_2D, gl[name], gl.LINEAR);
    for (const name of ["TEXTURE_WRAP_S", "TEXTURE_WRAP_T"]) gl.texParameteri(gl.TEXTURE_2D, gl[name], gl.CLAMP_TO_EDGE);
    this.buffer = gl.createFramebuffer();
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.buffer);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.DEPTH_ATTACHMENT, gl.TEXTURE_2D, texture, 0);
    const reach = 1.1 * this.distance * Math.tan(this.angle / 2) * 1.5;
    const eye = this.target.map((x, k) => x + 4 * SUN[k]);
    this.sun = product(parallel(reach, 0.5, 8), looking(eye, this.target));
  }

  listen() {
    const { canvas } = this;
    canvas.style.touchAction = "none";
    canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
    canvas.addEventListener("pointermove", (event) => {
      if (!event.buttons) return;
      this.turned -= 0.006 * event.movementX;
      this.raised = Math.min(1.5, Math.max(0.03, this.raised + 0.006 * event.movementY));
      this.again?.();
    });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.distance = Math.min(6, Math.max(0.3, this.distance * Math.exp(0.001 * event.deltaY)));
      this.again?.();
    }, { passive: false });
  }

  draw(model, data, spheres) {
    this.again = () => this.draw(model, data, spheres);
    const { gl, canvas, distance } = this;
    const eye = [Math.cos(this.raised) * Math.cos(this.turned), Math.cos(this.raised) * Math.sin(this.turned), Math.sin(this.raised)]
      .map((x, k) => this.target[k] + distance * x);
    const things = this.things(model, data, spheres);
    gl.enable(gl.DEPTH_TEST);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.buffer);
    gl.viewport(0, 0, SHADOW, SHADOW);
    gl.clear(gl.DEPTH_BUFFER_BIT);
    gl.useProgram(this.dark.program);
    gl.uniformMatrix4fv(this.dark.places.camera, false, this.sun);
    for (const thing of things) if (thing.colour[3] === 1 && thing.kind !== PLANE) this.one(this.dark, thing);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(...SKY, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const { places } = this.full;
    gl.useProgram(this.full.program);
    const lens = perspective(this.angle, canvas.width / canvas.height, 0.05, 30);
    gl.uniformMatrix4fv(places.camera, false, product(lens, looking(eye, this.target)));
    gl.uniformMatrix4fv(places.sun, false, this.sun);
    gl.uniform3fv(places.eye, eye);
    gl.uniform3fv(places.light, SUN);
    gl.uniform3fv(places.sky, SKY);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
    const clear = (thing) => Number(thing.colour[3] < 1);
    for (const thing of things.sort((a, b) => clear(a) - clear(b))) {
      gl.depthMask(thing.colour[3] === 1);
      gl.uniform4fv(places.colour, thing.colour);
      gl.uniform1i(places.ground, Number(thing.kind === PLANE));
      this.one(this.full, thing);
    }
    gl.depthMask(true);
  }

  things(model, data, spheres) {
    const { geom_type, geom_size, geom_rgba } = model, { geom_xpos, geom_xmat } = data;
    const things = Array.from(geom_type, (kind, k) => {
      const [a, b, c] = geom_size.subarray(3 * k, 3 * k + 3);
      const colour = kind === PLANE ? [0.72, 0.74, 0.77, 1] : Array.from(geom_rgba.subarray(4 * k, 4 * k + 4));
      const turn = geom_xmat.subarray(9 * k, 9 * k + 9);
      const scale = { [PLANE]: [8, 8, 1], [BOX]: [a, b, c], [CYLINDER]: [a, a, b] }[kind] ?? [a, a, a];
      const columns = [0, 3, 6, 1, 4, 7, 2, 5, 8].map((i) => turn[i]);
      return { kind, colour, columns, shift: geom_xpos.slice(3 * k, 3 * k + 3), scale, half: kind === CAPSULE ? b : 0 };
    });
    const columns = [1, 0, 0, 0, 1, 0, 0, 0, 1];
    for (const { centre, radius, colour } of spheres) {
      things.push({ kind: SPHERE, colour, columns, shift: centre, scale: [radius, radius, radius], half: 0 });
    }
    return things;
  }

  one({ places }, thing) {
    const { gl } = this, [first, count] = this.ranges[thing.kind];
    gl.uniformMatrix3fv(places.turn, false, thing.columns);
    gl.uniform3fv(places.shift, thing.shift);
    gl.uniform3fv(places.scale, thing.scale);
    gl.uniform1f(places.half_length, thing.half);
    gl.drawArrays(gl.TRIANGLES, first, count);
  }
}
