// Strokes -> 8 x 8 grey pixels -> the deployed file -> probabilities. The file resizes and normalizes the pixels by itself.

import * as ort from "./ort/ort.wasm.min.mjs";

const CELLS = 8; // the digits that the network learned from have 8 x 8 pixels
const CELL = 32; // pixels of the drawing that are averaged into one
const FILL = 0.9; // how much of the image the digit takes up
const PEN = 0.15; // thickness of a line in the image, as in those digits

const pad = document.getElementById("pad");
const seen = document.getElementById("seen");
const status = document.getElementById("status");
const strokes = []; // each a list of [x, y] in 0..1
let session = null;
let contract = null;
let busy = false;
let stale = false;

function draw() {
  const context = pad.getContext("2d");
  context.clearRect(0, 0, pad.width, pad.height);
  context.strokeStyle = getComputedStyle(document.body).color;
  line(context, strokes, pad.width, 0.06 * pad.width);
}

function line(context, paths, scale, width) {
  context.lineWidth = width;
  context.lineCap = context.lineJoin = "round";
  for (const path of paths) {
    context.beginPath();
    context.moveTo(path[0][0] * scale, path[0][1] * scale);
    for (const [x, y] of path) context.lineTo(x * scale, y * scale);
    context.stroke();
  }
}

/** The strokes cut out, centred and drawn with the usual pen, so that a small digit in a corner is as good as a large one. */
function centred() {
  const points = strokes.flat();
  const [xs, ys] = [points.map((p) => p[0]), points.map((p) => p[1])];
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const scale = (FILL - PEN) / Math.max(right - left, bottom - top, 0.02);
  const [x0, y0] = [(left + right) / 2, (top + bottom) / 2];
  return strokes.map((path) => path.map(([x, y]) => [0.5 + (x - x0) * scale, 0.5 + (y - y0) * scale]));
}

/** uint8 [8 * 8], white on black. */
function pixels() {
  const side = CELLS * CELL;
  const canvas = new OffscreenCanvas(side, side);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  line(context, centred(), side, PEN * side);
  const alpha = context.getImageData(0, 0, side, side).data.filter((_, index) => index % 4 === 3);
  const sums = new Float64Array(CELLS * CELLS);
  alpha.forEach((value, index) => {
    const [row, column] = [Math.floor(index / side / CELL), Math.floor((index % side) / CELL)];
    sums[row * CELLS + column] += value;
  });
  return Uint8Array.from(sums, (sum) => Math.round(sum / (CELL * CELL)));
}

function probabilities(logits) {
  const largest = Math.max(...logits);
  const powers = Array.from(logits, (value) => Math.exp(value - largest));
  const total = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / total);
}

/** One answer at a time; what was drawn meanwhile is asked about next. */
async function answer() {
  if (!session || !strokes.length) return;
  if (busy) {
    stale = true;
    return;
  }
  busy = true;
  try {
    do {
      stale = false;
      const image = pixels();
      const began = performance.now();
      const outputs = await session.run({ [session.inputNames[0]]: new ort.Tensor("uint8", image, [1, CELLS, CELLS, 1]) });
      const logits = outputs[session.outputNames[0]].data;
      if (strokes.length) show(image, logits, performance.now() - began);
    } while (stale && strokes.length);
  } catch (error) {
    fail(error);
  } finally {
    busy = false;
  }
}

function show(image, logits, milliseconds) {
  const shares = probabilities(logits);
  const best = shares.indexOf(Math.max(...shares));
  document.getElementById("answer").textContent = contract.labels[best];
  document.getElementById("score").textContent = `${(100 * shares[best]).toFixed(1)} % sure`;
  status.textContent = `answered in ${milliseconds.toFixed(1)} ms, on this device`;
  [...document.getElementById("bars").children].forEach((row, index) => {
    row.classList.toggle("best", index === best);
    row.querySelector(".fill").style.width = `${100 * shares[index]}%`;
    row.querySelector(".share").textContent = `${(100 * shares[index]).toFixed(1)} %`;
  });
  const picture = seen.getContext("2d").createImageData(CELLS, CELLS);
  image.forEach((value, index) => picture.data.set([value, value, value, 255], 4 * index));
  seen.getContext("2d").putImageData(picture, 0, 0);
  window.lastAnswer = { pixels: Array.from(image), logits: Array.from(logits), label: contract.labels[best] };
}

function clear() {
  strokes.length = 0;
  draw();
  document.getElementById("answer").textContent = "–";
  document.getElementById("score").textContent = "";
  seen.getContext("2d").clearRect(0, 0, CELLS, CELLS);
  for (const row of document.getElementById("bars").children) {
    row.classList.remove("best");
    row.querySelector(".fill").style.width = "0";
    row.querySelector(".share").textContent = "";
  }
  window.lastAnswer = null;
}

function fail(error) {
  status.textContent = `this did not work: ${error.message ?? error}`;
}

function listen() {
  let path = null;
  const place = (event) => {
    const box = pad.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  pad.addEventListener("pointerdown", (event) => {
    if (path || (event.pointerType === "mouse" && event.button !== 0)) return;
    event.preventDefault();
    pad.setPointerCapture(event.pointerId);
    path = { id: event.pointerId, points: [place(event)] };
    strokes.push(path.points);
    draw();
  });
  pad.addEventListener("pointermove", (event) => {
    if (path?.id !== event.pointerId) return;
    for (const part of event.getCoalescedEvents?.() ?? [event]) path.points.push(place(part));
    draw();
    answer();
  });
  for (const end of ["pointerup", "pointercancel"]) {
    pad.addEventListener(end, (event) => {
      if (path?.id !== event.pointerId) return;
      path = null;
      answer();
    });
  }
  document.getElementById("clear").addEventListener("click", clear);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}

function rows() {
  for (const label of contract.labels) {
    const row = document.createElement("li");
    for (const [kind, text] of [["label", label], ["track", ""], ["share", ""]]) {
      const part = document.createElement("span");
      part.className = kind;
      part.textContent = text;
      if (kind === "track") part.append(Object.assign(document.createElement("div"), { className: "fill" }));
      row.append(part);
    }
    document.getElementById("bars").append(row);
  }
}

listen();
try {
  ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
  ort.env.wasm.numThreads = 1; // more need headers that a plain server does not send, and this network needs no more
  contract = await (await fetch("contract.json")).json();
  rows();
  session = await ort.InferenceSession.create("model.onnx", { executionProviders: ["wasm"] });
  status.textContent = "ready";
  await answer();
} catch (error) {
  fail(error);
}
