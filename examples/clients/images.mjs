// Ask a server about image files, in JavaScript without any package; a browser does it in the same way.
//
// deploykit serve trained/lenet5/model.onnx
// node examples/clients/images.mjs http://127.0.0.1:8000 lenet5 three.png four.png

import { readFile } from "node:fs/promises";
import { basename } from "node:path";

const [server, model, ...paths] = process.argv.slice(2);
const form = new FormData();
for (const path of paths) form.append("image", new Blob([await readFile(path)]), basename(path));
const response = await fetch(`${server}/v2/models/${encodeURIComponent(model)}/predict?top=3`, { method: "POST", body: form });
const said = await response.json();
if (!response.ok) {
  console.error(said.error);
  process.exit(1);
}
said.predictions.forEach(({ top, error }, place) => {
  const best = top.map(({ label, score }) => `${label} ${(100 * score).toFixed(1)}%`).join(", ");
  console.log(`${paths[place]}: ${error ?? best}`);
});
