/* Plays recorded episodes side by side, in step.

     autorlReplay(element, arms)                   // an empty block; arms from viewer.py, as JSON
     autorlReplay(element, arms, { page: true })   // the only thing on its page: takes #frame=120

   While it has the focus: space plays and pauses; arrows step a frame, with shift a second; + and -
   change the speed; R looks from the first place again. Drag to orbit, scroll to zoom.
   Nothing is loaded. What this file does not do: simulate. */
"use strict";
const autorlReplay = (() => {
  const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 4];
  const [PLAY, PAUSE] = ["M4 2l10 6-10 6z", "M3 2h4v12H3zM9 2h4v12H9z"];
  const HOLD_SECONDS = 1; // at the end, before it begins anew
  const NO_WEBGL =
    "This browser shows no WebGL, which the three-dimensional view needs. Allow hardware " +
    "acceleration, use another browser, or make a video: agent_loop.py watch --mp4";

  const make = (tag, attributes, ...children) => {
    const element = document.createElement(tag);
    for (const name in attributes) element.setAttribute(name, attributes[name]);
    element.append(...children);
    return element;
  };

  async function inflate(text) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  /* The inverse of system/arrays.py: numbers (frames, columns), row after row. */
  async function unpack({ low, span, data }) {
    const bytes = await inflate(data);
    const [count, columns] = [bytes.length / 2, low.length];
    const frames = count / columns;
    const numbers = new Float32Array(count);
    for (let c = 0; c < columns; c++)
      for (let f = 0, level = 0; f < frames; f++) {
        const at = c * frames + f;
        level = (level + bytes[at] + 256 * bytes[count + at]) & 65535;
        numbers[f * columns + c] = low[c] + (level / 65535) * span[c];
      }
    return numbers;
  }

  /* An episode: row(seconds) is the poses, the focus and the return at that time. */
  class Episode {
    constructor(arm, numbers) {
      this.arm = arm;
      this.numbers = numbers;
      this.columns = arm.numbers.low.length;
      this.frames = numbers.length / this.columns;
      this.seconds = (this.frames - 1) * arm.seconds_per_frame;
    }

    row(seconds) {
      const at = Math.max(0, Math.min(seconds / this.arm.seconds_per_frame, this.frames - 1));
      const [frame, share] = [Math.floor(at), at % 1];
      const before = this.numbers.subarray(frame * this.columns, (frame + 1) * this.columns);
      if (!share) return before;
      const after = this.numbers.subarray((frame + 1) * this.columns, (frame + 2) * this.columns);
      return before.map((x, i) => x + share * (after[i] - x));
    }
  }

  // -- two dimensions: a canvas -------------------------------------------------------------------

  class Plane {
    constructor(canvas, episode) {
      [this.canvas, this.episode] = [canvas, episode];
      this.context = canvas.getContext("2d");
    }

    reset() {}

    resize(width, height, ratio) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
    }

    draw(row, theme) {
      const { arm, columns } = this.episode;
      const [context, { width, height }] = [this.context, this.canvas];
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.fillStyle = theme("paper");
      context.fillRect(0, 0, width, height);
      const zoom = Math.min(width / 2 / arm.extent[0], height / 2 / arm.extent[1]);
      const [x, y] = row.subarray(columns - 3, columns - 1);
      context.setTransform(zoom, 0, 0, -zoom, width / 2 - x * zoom, height / 2 + y * zoom);
      for (const shape of arm.fixed) this.shape(shape, theme);
      arm.bodies.forEach((shapes, body) => {
        context.save();
        context.translate(row[3 * body], row[3 * body + 1]);
        context.rotate(row[3 * body + 2]);
        for (const shape of shapes) this.shape(shape, theme);
        context.restore();
      });
    }

    shape(shape, theme) {
      const [context, c] = [this.context, shape.color];
      context.beginPath();
      if (shape.disc) context.arc(...shape.disc, shape.radius, 0, 2 * Math.PI);
      else (shape.polygon ?? shape.line).forEach((point) => context.lineTo(...point));
      context.fillStyle = context.strokeStyle = Array.isArray(c) ? `rgb(${c})` : theme(c);
      if (!shape.line) return context.fill();
      [context.lineWidth, context.lineCap, context.lineJoin] = [shape.width, "round", "round"];
      context.stroke();
    }
  }

  // -- three dimensions: WebGL --------------------------------------------------------------------

  class Space {
    constructor(canvas, episode) {
      const { arm } = episode;
      this.episode = episode;
      this.renderer = new THREE.WebGLRenderer({ canvas, antialias: true });
      this.renderer.shadowMap.enabled = true;
      this.radius = arm.extent[0];
      this.scene = new THREE.Scene();
      this.scene.fog = new THREE.Fog(0, 7 * this.radius, 30 * this.radius);
      this.sky = new THREE.HemisphereLight(0xffffff, 0x99a5b0, 2.0);
      this.sun = new THREE.DirectionalLight(0xffffff, 2.2);
      this.sun.castShadow = true;
      this.sun.shadow.mapSize.set(2048, 2048);
      this.sun.shadow.normalBias = 0.003 * this.radius;
      const box = this.sun.shadow.camera;
      [box.left, box.bottom] = [-3 * this.radius, -3 * this.radius];
      [box.right, box.top, box.far] = [3 * this.radius, 3 * this.radius, 20 * this.radius];
      this.scene.add(this.sky, this.sun, this.sun.target);
      this.camera = new THREE.PerspectiveCamera(35, 1, this.radius / 50, 100 * this.radius);
      this.camera.up.set(0, 0, 1);
      this.controls = new THREE.OrbitControls(this.camera, canvas);
      canvas.style.touchAction = "pan-y"; // a page around it can still be scrolled
      this.bodies = arm.bodies.map(() => new THREE.Group());
      this.scene.add(...this.bodies);
    }

    async build() {
      const { arm } = this.episode;
      this.floors = [];
      for (const shape of arm.fixed) this.scene.add(await this.mesh(shape));
      for (const [body, shapes] of arm.bodies.entries())
        for (const shape of shapes) this.bodies[body].add(await this.mesh(shape));
    }

    async mesh(shape) {
      const [a, b, c] = shape.size;
      if (shape.type === "plane" && Math.abs(shape.quaternion[0]) > 0.999) return this.floor(shape);
      const geometry = {
        plane: () => new THREE.PlaneGeometry(2 * (a || 50), 2 * (b || 50)),
        sphere: () => new THREE.SphereGeometry(a, 32, 20),
        capsule: () => new THREE.CapsuleGeometry(a, 2 * b, 10, 28).rotateX(Math.PI / 2),
        ellipsoid: () => new THREE.SphereGeometry(1, 32, 20).scale(a, b, c),
        cylinder: () => new THREE.CylinderGeometry(a, a, 2 * b, 32).rotateX(Math.PI / 2),
        box: () => new THREE.BoxGeometry(2 * a, 2 * b, 2 * c),
        mesh: () => new THREE.BufferGeometry(),
      }[shape.type]?.();
      if (!geometry) return new THREE.Group(); // a height field: not drawn
      if (shape.type === "mesh") {
        const vertices = new Float32Array((await inflate(shape.vertices)).buffer);
        const faces = new Uint32Array((await inflate(shape.faces)).buffer);
        geometry.setAttribute("position", new THREE.Float32BufferAttribute(vertices, 3));
        geometry.setIndex([...faces]);
        geometry.computeVertexNormals();
      }
      const [red, green, blue, opacity] = shape.color;
      const color = new THREE.Color().setRGB(red, green, blue, THREE.SRGBColorSpace);
      const look = { color, opacity, transparent: opacity < 1, roughness: 0.55 };
      const mesh = new THREE.Mesh(geometry, new THREE.MeshStandardMaterial(look));
      return this.place(mesh, shape);
    }

    place(mesh, shape) {
      const [w, x, y, z] = shape.quaternion;
      mesh.position.set(...shape.position);
      mesh.quaternion.set(x, y, z, w);
      mesh.castShadow = mesh.receiveShadow = true;
      return mesh;
    }

    /* Planes have no end in MuJoCo: this one moves along, by whole squares. */
    floor(shape) {
      this.square = 10 ** Math.round(Math.log10(this.radius)); // metres
      this.tile = make("canvas", { width: 128, height: 128 });
      this.texture = new THREE.CanvasTexture(this.tile);
      this.texture.wrapS = this.texture.wrapT = THREE.RepeatWrapping;
      this.texture.repeat.set(50, 50);
      this.texture.colorSpace = THREE.SRGBColorSpace;
      this.texture.anisotropy = this.renderer.capabilities.getMaxAnisotropy();
      const material = new THREE.MeshLambertMaterial({ map: this.texture });
      const geometry = new THREE.PlaneGeometry(100 * this.square, 100 * this.square);
      const floor = this.place(new THREE.Mesh(geometry, material), shape);
      floor.castShadow = false;
      this.floors.push(floor);
      return floor;
    }

    paint(theme) {
      const background = new THREE.Color(theme("sky"));
      this.scene.background = this.scene.fog.color = background;
      if (!this.tile) return;
      const context = this.tile.getContext("2d");
      [theme("floor"), theme("tile")].forEach((color, i) => {
        context.fillStyle = color;
        for (const [x, y] of [[0, 0], [1, 1]]) context.fillRect(64 * ((x + i) % 2), 64 * y, 64, 64);
      });
      this.texture.needsUpdate = true;
    }

    reset() {
      this.focus = null;
    }

    resize(width, height, ratio) {
      this.renderer.setPixelRatio(ratio);
      this.renderer.setSize(width, height, false);
      this.camera.aspect = width / height;
      this.camera.updateProjectionMatrix();
    }

    draw(row, theme) {
      const columns = this.episode.columns;
      const focus = new THREE.Vector3(...row.subarray(columns - 4, columns - 1));
      if (theme.version !== this.painted) this.paint(theme);
      this.painted = theme.version;
      this.bodies.forEach((body, b) => {
        const [x, y, z, qw, qx, qy, qz] = row.subarray(7 * b, 7 * b + 7);
        body.position.set(x, y, z);
        body.quaternion.set(qx, qy, qz, qw).normalize();
      });
      if (this.focus) {
        const moved = focus.clone().sub(this.focus);
        this.camera.position.add(moved);
        this.controls.target.add(moved);
      } else {
        const direction = this.episode.arm.above ? [0, -0.4, 1] : [0.35, -1, 0.22];
        const half = Math.sin((this.camera.fov / 360) * Math.PI) * Math.min(1, this.camera.aspect);
        const distance = (1.25 * this.radius) / half;
        this.camera.position.set(...direction).setLength(distance).add(focus);
        this.controls.target.copy(focus);
      }
      this.focus = focus;
      for (const floor of this.floors)
        for (const axis of ["x", "y"])
          floor.position[axis] = 2 * this.square * Math.round(focus[axis] / 2 / this.square);
      this.sun.target.position.copy(focus);
      this.sun.position.set(-2, -3, 6).setLength(8 * this.radius).add(focus);
      this.controls.update();
      this.renderer.render(this.scene, this.camera);
    }

    /* Look from where another one is looked at. */
    follow(other) {
      const offset = other.camera.position.clone().sub(other.focus);
      this.camera.position.copy(this.focus).add(offset);
      this.controls.target.copy(other.controls.target).sub(other.focus).add(this.focus);
    }
  }

  // -- the player ---------------------------------------------------------------------------------

  async function view(arm, canvas) {
    const episode = new Episode(arm, await unpack(arm.numbers));
    if (arm.dimensions === 2) return new Plane(canvas, episode);
    if (!make("canvas").getContext("webgl2")) {
      canvas.replaceWith(make("p", { class: "replay-message", role: "alert" }, NO_WEBGL));
      return { episode, draw() {}, reset() {}, resize() {} };
    }
    const space = new Space(canvas, episode);
    await space.build();
    return space;
  }

  return async function (root, arms, { page = false } = {}) {
    // a color's name to its value, which may change with `version`
    const theme = (name) => getComputedStyle(root).getPropertyValue(`--replay-${name}`).trim();
    theme.version = 0;
    const stage = make("div", { class: "replay-stage" });
    stage.style.setProperty("--replay-columns", arms.length > 4 ? 4 : Math.min(arms.length, 3));
    const play = make("button", { class: "replay-play", type: "button" });
    const scrub = make("input", { type: "range", min: 0, step: 1, "aria-label": "frame" });
    const clock = make("output", { class: "replay-clock" });
    const speed = make("select", { "aria-label": "speed" });
    for (const s of SPEEDS) speed.append(make("option", { value: s }, `${s}×`));
    speed.value = 1;
    root.classList.add("replay");
    root.classList.toggle("replay-page", page);
    root.classList.toggle("replay-many", arms.length > 4);
    root.tabIndex = 0;
    root.replaceChildren(stage, make("div", { class: "replay-bar" }, play, scrub, clock, speed));

    const radius = Math.max(...arms.filter((a) => a.dimensions === 3).map((a) => a.extent[0]));
    const views = [];
    for (const arm of arms) {
      if (arm.dimensions === 3) arm.extent = [radius]; // the same scale for all
      const canvas = make("canvas", { role: "img", "aria-label": `${arm.label}: ${arm.note}` });
      const score = make("span", { class: "replay-score" });
      const caption = make("figcaption", {}, make("b", {}, arm.label), " ", score);
      if (arm.note) caption.append(make("small", {}, arm.note));
      const figure = make("figure", {}, canvas, caption);
      stage.append(figure);
      views.push(Object.assign(await view(arm, canvas), { figure, score }));
    }
    let master = null; // the one that a person turns
    for (const space of views.filter((v) => v instanceof Space)) {
      space.controls.addEventListener("start", () => (master = space));
      space.controls.addEventListener("change", () => (dirty = true));
      if (!page) space.controls.enableZoom = false; // else a page could not be scrolled over it
    }
    const seconds = Math.max(...views.map((v) => v.episode.seconds));
    const frame = Math.min(...views.map((v) => v.episode.arm.seconds_per_frame));
    scrub.max = Math.round(seconds / frame);

    let [at, playing, before, dirty, visible] = [0, true, 0, true, true];
    const number = (x) =>
      x.toLocaleString("en", { maximumFractionDigits: Math.abs(x) < 10 ? 1 : 0 });
    const setPlaying = (on) => {
      if (on && at >= seconds) at = 0;
      playing = on;
      play.innerHTML = `<svg viewBox="0 0 16 16"><path d="${on ? PAUSE : PLAY}"/></svg>`;
      play.setAttribute("aria-label", on ? "pause" : "play");
    };
    const seek = (to) => {
      setPlaying(false);
      at = Math.max(0, Math.min(to, seconds));
      dirty = true;
      if (page) history.replaceState(null, "", `#frame=${Math.round(at / frame)}`);
    };
    const fromHash = () => {
      const asked = page && location.hash.match(/frame=(\d+)/);
      if (asked) seek(asked[1] * frame);
    };

    function draw() {
      for (const v of views) {
        const { arm, columns } = v.episode;
        const row = v.episode.row(at);
        if (master && master !== v && v.focus) v.follow(master);
        v.draw(row, theme);
        const over = at >= v.episode.seconds;
        v.figure.classList.toggle("replay-over", over && v.episode.seconds < seconds);
        const so_far = `return ${number(row[columns - 1])} of ${number(arm.return)}`;
        v.score.textContent = over ? `return ${number(arm.return)} in ${arm.steps} steps` : so_far;
      }
      const now = Math.min(at, seconds);
      scrub.value = root.dataset.frame = Math.round(now / frame);
      clock.textContent = `${now.toFixed(1)} / ${seconds.toFixed(1)} s`;
    }

    function tick(now) {
      if (playing && visible) {
        at += (Math.min(now - before, 100) / 1000) * speed.value;
        if (at > seconds + HOLD_SECONDS) at = 0;
        dirty = true;
      }
      before = now;
      if (dirty && visible) {
        dirty = false;
        draw();
        root.dataset.ready = "1";
      }
      requestAnimationFrame(tick);
    }

    const faster = (by) =>
      (speed.selectedIndex = Math.max(0, Math.min(speed.selectedIndex + by, SPEEDS.length - 1)));
    const keys = {
      " ": () => setPlaying(!playing),
      ArrowLeft: (e) => seek(at - (e.shiftKey ? 1 : frame)),
      ArrowRight: (e) => seek(at + (e.shiftKey ? 1 : frame)),
      "+": () => faster(1),
      "-": () => faster(-1),
      r: () => {
        [master, dirty] = [null, true];
        views.forEach((v) => v.reset());
      },
    };
    (page ? document : root).addEventListener("keydown", (event) => {
      const key = keys[event.key === "=" ? "+" : event.key.replace("R", "r")];
      if (!key || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.target === play && event.key === " ") return; // the button's own
      if (event.target === speed && event.key !== " ") return;
      event.preventDefault();
      key(event);
    });
    play.addEventListener("click", () => setPlaying(!playing));
    scrub.addEventListener("input", () => seek(scrub.value * frame));
    if (page) addEventListener("hashchange", fromHash);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      theme.version += 1;
      dirty = true;
    });
    new IntersectionObserver((seen) => (visible = seen.at(-1).isIntersecting)).observe(root);
    new ResizeObserver(() => {
      for (const v of views)
        v.resize(v.figure.clientWidth, v.figure.clientHeight, Math.min(devicePixelRatio, 2));
      draw();
    }).observe(stage);
    setPlaying(!matchMedia("(prefers-reduced-motion: reduce)").matches);
    fromHash();
    requestAnimationFrame(tick);
  };
})();
