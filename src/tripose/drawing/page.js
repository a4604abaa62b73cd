"use strict";
// The page's script: one state (frame, point of view, person), drawn on a 3D canvas and on plots that share a cursor.
const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const samples = data.xyz.length;
const columns = Math.ceil(data.frames / data.size);
const state = { sample: data.start, playing: false, person: 0, whole: false, azimuth: 0.7, elevation: 0.22, distance: 1, target: [0, 0, 0] };
const MARGIN = 104; // px left of every plot, so that all share one time axis
const PALETTE = ["#3b7dd8", "#d9822b", "#2c9b6c", "#b0519e", "#8a7a2f", "#2aa5b5", "#c8505a", "#7468c9"];
let colors = {};

function readColors() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["page", "panel", "ink", "muted", "line", "grid", "left", "right", "middle", "missing", "warn", "views"])
    colors[name] = style.getPropertyValue("--" + name).trim();
  colors.side = [colors.middle, colors.left, colors.right];
}

// A canvas in CSS pixels on any screen; returns its context, width and height.
function prepare(canvas, height) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  if (height) canvas.style.height = height + "px";
  else height = canvas.clientHeight;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.font = "11px system-ui, sans-serif";
  return [context, width, height];
}

// ---- 3D view -------------------------------------------------------------------------------------------------------

function frameScene() {
  const low = [...data.scene.low], high = [...data.scene.high];
  if (state.whole)
    for (const camera of data.cameras)
      camera.xyz.forEach((v, i) => { low[i % 3] = Math.min(low[i % 3], v); high[i % 3] = Math.max(high[i % 3], v); });
  state.target = low.map((v, i) => (v + high[i]) / 2);
  const size = Math.hypot(...low.map((v, i) => high[i] - v));
  state.distance = Math.max(size, 500) * (state.whole ? 1.05 : 1.45);
}

// World mm -> [x px, y px, depth mm], or null behind the eye.
function projector(width, height) {
  const { azimuth, elevation, distance, target } = state;
  const [ca, sa, ce, se] = [Math.cos(azimuth), Math.sin(azimuth), Math.cos(elevation), Math.sin(elevation)];
  const focal = Math.min(width, height) * 1.3;
  return (x, y, z) => {
    const [dx, dy, dz] = [x - target[0], y - target[1], z - target[2]];
    const right = ca * dx + sa * dy, forward = -sa * dx + ca * dy;
    const depth = distance + ce * forward - se * dz, up = se * forward + ce * dz;
    return depth > 50 ? [width / 2 + (focal * right) / depth, height / 2 - (focal * up) / depth, depth] : null;
  };
}

function line(context, a, b) {
  if (!a || !b) return;
  context.beginPath();
  context.moveTo(a[0], a[1]);
  context.lineTo(b[0], b[1]);
  context.stroke();
}

function drawGround(context, at) {
  const { low, high, ground } = data.scene, step = 500;
  const [x0, y0] = [low[0], low[1]].map((v) => Math.floor(v / step - 1) * step);
  const [x1, y1] = [high[0], high[1]].map((v) => Math.ceil(v / step + 1) * step);
  context.strokeStyle = colors.grid;
  context.lineWidth = 1;
  for (let x = x0; x <= x1; x += step)
    for (let y = y0; y <= y1; y += step) {
      if (x < x1) line(context, at(x, y, ground), at(x + step, y, ground));
      if (y < y1) line(context, at(x, y, ground), at(x, y + step, ground));
    }
}

function drawCameras(context, at) {
  context.strokeStyle = context.fillStyle = colors.muted;
  context.lineWidth = 1;
  for (const { name, xyz } of data.cameras) {
    const [center, ...corners] = [0, 3, 6, 9, 12].map((i) => at(xyz[i], xyz[i + 1], xyz[i + 2]));
    corners.forEach((corner, i) => { line(context, center, corner); line(context, corner, corners[(i + 1) % 4]); });
    if (center) context.fillText(name, center[0] + 7, center[1] - 7);
  }
}

function drawPerson(context, at, person) {
  const count = data.joints.length, xyz = data.xyz[state.sample], first = person * count;
  const points = data.joints.map((_, j) => {
    const i = (first + j) * 3;
    return xyz[i] === null || xyz[i + 1] === null || xyz[i + 2] === null ? null : at(xyz[i], xyz[i + 1], xyz[i + 2]);
  });
  const bones = data.bones.filter(([a, b]) => points[a] && points[b]);
  const depth = ([a, b]) => points[a][2] + points[b][2];
  bones.sort((p, q) => depth(q) - depth(p));
  for (const [a, b, side] of bones) {
    const width = Math.max(2, (3.2 * state.distance) / (depth([a, b]) / 2));
    for (const [extra, color] of [[3, colors.panel], [0, colors.side[side]]]) { // a halo keeps crossing limbs apart
      context.lineWidth = width + extra;
      context.strokeStyle = color;
      line(context, points[a], points[b]);
    }
  }
  points.forEach((point, j) => {
    if (!point) return;
    const hollow = data.hollow[state.sample][first + j] === "1";
    context.beginPath();
    context.arc(point[0], point[1], Math.max(2.2, (3.6 * state.distance) / point[2]), 0, 7);
    context.fillStyle = hollow ? colors.panel : colors.side[data.side[j]];
    context.fill();
    if (!hollow) return;
    context.lineWidth = 1.6;
    context.strokeStyle = colors.side[data.side[j]];
    context.stroke();
  });
  const seen = points.filter(Boolean);
  if (data.persons.length < 2 || !seen.length) return;
  const top = seen.reduce((p, q) => (q[1] < p[1] ? q : p));
  context.fillStyle = person === state.person ? colors.ink : colors.muted;
  context.fillText(data.persons[person], top[0] + 8, top[1] - 8);
}

function drawScene() {
  const [context, width, height] = prepare($("scene"));
  const at = projector(width, height);
  context.lineCap = "round";
  drawGround(context, at);
  drawCameras(context, at);
  data.persons.forEach((_, person) => samples && drawPerson(context, at, person));
}

// ---- plots over time -----------------------------------------------------------------------------------------------

// Values come one per frame, or as minimum, median and maximum of every `size` frames: a line over a pale range.
function curve(context, values, color, x, y) {
  const per = data.size > 1 ? 3 : 1, middle = per >> 1;
  context.strokeStyle = color;
  if (per === 3) {
    context.globalAlpha = 0.22;
    for (let i = 0; i < values.length; i += 3)
      if (values[i] !== null) line(context, [x((i / 3 + 0.5) * data.size), y(values[i])], [x((i / 3 + 0.5) * data.size), y(values[i + 2])]);
    context.globalAlpha = 1;
  }
  context.lineWidth = 1.25;
  context.lineJoin = "round";
  context.beginPath();
  for (let i = middle, pen = false; i < values.length; i += per) {
    const here = values[i] !== null, px = x(((i - middle) / per + 0.5) * data.size), py = y(values[i]);
    if (here && !pen) context.moveTo(px - 0.6, py); // so that a lone value is a dot
    if (here) context.lineTo(px + (pen ? 0 : 0.6), py);
    pen = here;
  }
  context.stroke();
}

const valueAt = (values) => {
  const frame = state.sample * data.step;
  return values[data.size > 1 ? 3 * Math.floor(frame / data.size) + 1 : frame] ?? null;
};

function axes(context, width, height, low, high, unit) {
  context.textAlign = "right";
  context.textBaseline = "middle";
  context.strokeStyle = colors.line;
  context.lineWidth = 1;
  for (const value of [low, (low + high) / 2, high]) {
    const y = 6 + (height - 12) * (1 - (value - low) / (high - low));
    line(context, [MARGIN, y], [width, y]);
    context.fillStyle = colors.muted;
    context.fillText(value.toFixed(high - low < 5 ? 1 : 0) + (value === high ? " " + unit : ""), MARGIN - 8, y);
  }
  context.save();
  context.beginPath();
  context.rect(MARGIN, 0, width - MARGIN, height);
  context.clip();
  return (value) => 6 + (height - 12) * (1 - (value - low) / (high - low));
}

const timeAxis = (width) => (frame) => MARGIN + ((width - MARGIN) * frame) / Math.max(data.frames, 1);

// A plot: a line of text (name and legend) above a canvas; `draw` and `label` are called when something changes.
function addPlot(name, legend, draw, label) {
  const box = document.createElement("div"), text = document.createElement("p"), canvas = document.createElement("canvas");
  box.className = "plot";
  const bold = document.createElement("b");
  bold.textContent = name;
  text.append(bold, ...legend.map(([title, color, kind]) => {
    const span = document.createElement("span"), mark = document.createElement("i");
    mark.style.background = color();
    mark.className = kind || "";
    span.append(mark, document.createTextNode(title));
    span.refresh = () => { mark.style.background = color(); };
    return span;
  }));
  box.append(text, canvas);
  $("plots").append(box);
  const spans = [...text.querySelectorAll("span")];
  return { draw: () => { spans.forEach((s) => s.refresh()); draw(canvas); }, label: () => label && label(spans.map((s) => s.lastChild)) };
}

function errorPlot() {
  const all = data.errors.flatMap((e) => e.px).filter((v) => v !== null).sort((a, b) => a - b);
  const top = Math.max(1, 1.25 * (all[Math.floor(0.99 * (all.length - 1))] || 1));
  // Up to eight cameras have their own colour; of a larger rig the eight worst, the others are grey.
  const typical = (e) => { const v = e.px.filter((x) => x !== null).sort((a, b) => a - b); return v[v.length >> 1] ?? 0; };
  const shown = data.errors.length > 8 ? [...data.errors].sort((a, b) => typical(b) - typical(a)).slice(0, 8) : data.errors;
  const legend = shown.map((e, i) => [e.name, () => PALETTE[i]]);
  const rest = data.errors.length - shown.length;
  return addPlot("Reprojection error, px" + (rest ? ` (the eight worst; ${rest} others in grey)` : ""), legend, (canvas) => {
    const [context, width, height] = prepare(canvas, 150);
    const y = axes(context, width, height, 0, top, "px"), x = timeAxis(width);
    for (const e of data.errors) if (!shown.includes(e)) curve(context, e.px, colors.grid, x, y);
    shown.forEach((e, i) => curve(context, e.px, PALETTE[i], x, y));
    context.restore();
  }, (texts) => texts.forEach((text, i) => { text.data = `${shown[i].name} ${valueAt(shown[i].px)?.toFixed(1) ?? "–"}`; }));
}

function viewsPlot() {
  const most = Math.max(2, ...data.views.flat().map((row) => Math.max(...row)));
  const fill = (digit) => digit === 0 ? colors.missing : digit === 1 && data.counted ? colors.warn : colors.views;
  const alpha = (digit) => (digit > 1 && most > 2 ? 0.3 + (0.6 * (digit - 2)) / (most - 2) : digit > 1 ? 0.8 : 1);
  const legend = data.counted
    ? [["missing", () => colors.missing, "box"], ["one view or filled", () => colors.warn, "box"],
       [`2 to ${most === 9 ? "9 or more" : most} views, the more the darker`, () => colors.views, "box"]]
    : [["missing", () => colors.missing, "box"], ["present", () => colors.views, "box"]];
  return addPlot("Views per joint", legend, (canvas) => {
    const rows = data.views[state.person] || [], pitch = 13;
    const [context, width] = prepare(canvas, rows.length * pitch + 2), x = timeAxis(width);
    context.textAlign = "right";
    context.textBaseline = "middle";
    rows.forEach((row, j) => {
      context.globalAlpha = 1;
      context.fillStyle = colors.muted;
      context.fillText(data.joints[j], MARGIN - 8, j * pitch + pitch / 2, MARGIN - 10);
      for (let start = 0, end = 1; end <= columns; end++) {
        if (end < columns && row[end] === row[start]) continue; // one rectangle per run of equal columns
        const digit = +row[start], left = x(start * data.size);
        context.globalAlpha = alpha(digit);
        context.fillStyle = fill(digit);
        context.fillRect(left, j * pitch + 1, Math.max(x(Math.min(end * data.size, data.frames)) - left, 1), pitch - 2);
        start = end;
      }
    });
  });
}

function bonePlots() {
  const names = [...new Set(data.lengths.flat().map((plot) => plot.label))];
  const sides = [["middle", 0], ["left", 1], ["right", 2]];
  return names.map((name) => {
    const find = () => (data.lengths[state.person] || []).find((plot) => plot.label === name);
    const used = sides.filter(([side]) => data.lengths.flat().some((plot) => plot.label === name && plot[side]));
    return addPlot(`Length of ${name}, mm`, used.map(([side, i]) => [side, () => colors.side[i]]), (canvas) => {
      const [context, width, height] = prepare(canvas, 64), plot = find();
      if (!plot) return;
      const y = axes(context, width, height, plot.low, plot.high, "mm"), x = timeAxis(width);
      for (const [side, i] of used) if (plot[side]) curve(context, plot[side], colors.side[i], x, y);
      context.restore();
    }, (texts) => texts.forEach((text, i) => { text.data = `${used[i][0]} ${(find() && valueAt(find()[used[i][0]] || [])) ?? "–"}`; }));
  });
}

// ---- state -> screen -----------------------------------------------------------------------------------------------

const plots = [];

function show(sample) {
  state.sample = Math.min(Math.max(sample, 0), Math.max(samples - 1, 0));
  const frame = state.sample * data.step, width = $("plots").clientWidth;
  $("frame").value = state.sample;
  $("clock").textContent = `frame ${frame} of ${data.frames} · ${(frame / data.fps).toFixed(2)} s`;
  $("cursor").style.left = timeAxis(width)(frame + 0.5) + "px";
  plots.forEach((plot) => plot.label());
  drawScene();
}

function redraw() {
  readColors();
  document.querySelectorAll("[data-person]").forEach((e) => { e.hidden = +e.dataset.person !== state.person; });
  plots.forEach((plot) => plot.draw());
  show(state.sample);
}

function play(on) {
  state.playing = on && samples > 1;
  $("play").classList.toggle("on", state.playing);
  let last = null, position = state.sample;
  const tick = (now) => {
    if (!state.playing) return;
    last ??= now; // not performance.now(): the first tick may carry an earlier time, and step back
    if (Math.floor(position) !== state.sample) position = state.sample; // somebody moved the frame meanwhile
    position = (position + (((now - last) / 1000) * data.fps * $("speed").value) / data.step) % samples;
    last = now;
    if (Math.floor(position) !== state.sample) show(Math.floor(position));
    requestAnimationFrame(tick);
  };
  if (state.playing) requestAnimationFrame(tick);
}

function listen() {
  const scene = $("scene"), view = () => requestAnimationFrame(drawScene);
  scene.addEventListener("pointerdown", (e) => scene.setPointerCapture(e.pointerId));
  scene.addEventListener("pointermove", (e) => {
    if (!e.buttons) return;
    state.azimuth -= e.movementX * 0.008;
    state.elevation = Math.min(Math.max(state.elevation + e.movementY * 0.008, -1.5), 1.5);
    view();
  });
  scene.addEventListener("wheel", (e) => { e.preventDefault(); state.distance *= Math.exp(e.deltaY * 0.001); view(); }, { passive: false });
  scene.addEventListener("dblclick", () => { frameScene(); view(); });
  $("fit").addEventListener("click", () => {
    state.whole = !state.whole;
    $("fit").textContent = state.whole ? "people" : "rig";
    frameScene();
    view();
  });
  const jump = (e) => {
    const box = $("plots").getBoundingClientRect();
    const frame = ((e.clientX - box.left - MARGIN) / (box.width - MARGIN)) * data.frames;
    show(Math.floor(frame / data.step));
  };
  $("plots").addEventListener("pointerdown", jump);
  $("plots").addEventListener("pointermove", (e) => e.buttons && jump(e));
  $("play").addEventListener("click", () => play(!state.playing));
  $("frame").addEventListener("input", (e) => show(+e.target.value));
  $("person").addEventListener("change", (e) => { state.person = +e.target.value; redraw(); });
  document.addEventListener("keydown", (e) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
    if (e.target.tagName === "SELECT" || (e.key !== " " && !step)) return;
    e.preventDefault();
    if (step) show(state.sample + step * (e.shiftKey ? 10 : 1));
    else play(!state.playing);
  });
  document.addEventListener("keyup", (e) => e.key === " " && e.target.tagName === "BUTTON" && e.preventDefault());
  new ResizeObserver(redraw).observe($("plots"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}

readColors();
$("frame").max = Math.max(samples - 1, 0);
$("chooser").hidden = data.persons.length < 2;
$("fit").hidden = !data.cameras.length;
frameScene();
if (data.errors.length) plots.push(errorPlot());
plots.push(viewsPlot(), ...bonePlots());
listen();
redraw();
document.documentElement.dataset.ready = "1";
