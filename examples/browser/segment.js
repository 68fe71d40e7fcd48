// An image -> the network's input by the contract -> the label of every pixel, over the image.

import * as ort from "./ort/ort.wasm.min.mjs";
import { mask, preprocess } from "./preprocessing.js";

const picture = document.getElementById("picture");
const status = document.getElementById("status");
let session = null;
let contract = null;

/** The colours of `deploykit predict --out`: hues a golden section apart, label 0 black. */
function colour(index) {
  if (!index) return [0, 0, 0];
  const hue = (0.618033988749895 * index) % 1;
  const channel = (shift) => {
    const k = (shift + hue * 6) % 6;
    return Math.round(255 * 0.95 * (1 - 0.75 * Math.max(0, Math.min(k, 4 - k, 1))));
  };
  return [channel(5), channel(3), channel(1)];
}

/** The tensor that the file takes: raw bytes where it prepares images itself, else what the contract makes of them. */
function tensor(image) {
  const rules = contract.input;
  if (!contract.preprocessing_in_graph) {
    return new ort.Tensor("float32", preprocess(image, rules), [1, rules.channels, rules.height, rules.width]);
  }
  if (rules.channels !== 3) throw new Error("this page hands colour images to files that prepare them");
  const bytes = Uint8Array.from({ length: image.width * image.height * 3 }, (_, at) => image.data[4 * Math.floor(at / 3) + (at % 3)]);
  return new ort.Tensor("uint8", bytes, [1, image.height, image.width, 3]);
}

async function answer(source) {
  const bitmap = await createImageBitmap(source); // upright, as EXIF says
  [picture.width, picture.height] = [bitmap.width, bitmap.height];
  const context = picture.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const image = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const began = performance.now();
  const outputs = await session.run({ [session.inputNames[0]]: tensor(image) });
  const scores = outputs[contract.output.name ?? session.outputNames[0]];
  const labels = mask(scores.data, scores.dims.slice(1), image.width, image.height, contract.input);
  const milliseconds = performance.now() - began;
  show(context, image, labels);
  status.textContent = `answered in ${milliseconds.toFixed(0)} ms, on this device`;
  window.lastAnswer = { width: image.width, height: image.height, mask: Array.from(labels) };
}

function show(context, image, labels) {
  const counts = new Map();
  labels.forEach((label, place) => {
    counts.set(label, (counts.get(label) ?? 0) + 1);
    const seen = label !== 255;
    colour(seen ? label : 0).forEach((level, channel) => {
      const at = 4 * place + channel;
      image.data[at] = seen ? image.data[at] * 0.5 + level * 0.5 : image.data[at] * 0.3;
    });
  });
  context.putImageData(image, 0, 0);
  const names = contract.output.labels;
  const found = [...counts].filter(([label]) => label !== 255).sort((a, b) => b[1] - a[1]);
  document.getElementById("bars").replaceChildren(
    ...found.slice(0, 12).map(([label, count]) => {
      const row = document.createElement("li");
      const parts = ["swatch", "named", "share"].map((kind) => Object.assign(document.createElement("span"), { className: kind }));
      parts[0].style.background = `rgb(${colour(label).join(" ")})`;
      parts[1].textContent = names ? names[label] : String(label);
      parts[2].textContent = `${((100 * count) / labels.length).toFixed(1)} %`;
      row.append(...parts);
      return row;
    }),
  );
}

function fail(error) {
  status.textContent = `this did not work: ${error.message ?? error}`;
}

document.getElementById("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) answer(file).catch(fail);
});
try {
  ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
  ort.env.wasm.numThreads = 1;
  contract = (await (await fetch("contract.json")).json()).contract;
  if (contract.output.class_axis !== 1) throw new Error("this page reads masks of scores, (batch, labels, height, width)");
  session = await ort.InferenceSession.create("model.onnx", { executionProviders: ["wasm"] });
  status.textContent = "ready";
} catch (error) {
  fail(error);
}
