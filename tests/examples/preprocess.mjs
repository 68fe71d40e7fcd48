// Cases as JSON on stdin -> pixels and inputs as the browser makes them: node preprocess.mjs PREPROCESSING.js < cases.json
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { pixels, preprocess, mask } = await import(pathToFileURL(process.argv[2]).href);
const cases = JSON.parse(readFileSync(0, "utf8"));
const found = cases.map(({ width, height, data, rules, scores }) => {
  const image = { width, height, data: Buffer.from(data, "base64") };
  const bytes = Buffer.from(pixels(image, rules)).toString("base64");
  const input = Buffer.from(preprocess(image, rules).buffer).toString("base64");
  const labels = scores ? Buffer.from(mask(scores.values, scores.shape, width, height, rules)).toString("base64") : null;
  return { pixels: bytes, input, labels };
});
process.stdout.write(JSON.stringify(found));
