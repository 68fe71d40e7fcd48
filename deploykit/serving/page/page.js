// The page at /: models, their figures every second, and one image at a time. All text goes in as text, never as HTML.

const models = document.querySelector("#models");
const state = document.querySelector("#state");
const shown = new Map();
let token = sessionStorage.getItem("token") ?? "";

function headers(more = {}) {
  return token ? { ...more, Authorization: `Bearer ${token}` } : more;
}

async function asked(path, options = {}) {
  const response = await fetch(path, { ...options, headers: headers(options.headers) });
  if (response.status === 401) document.querySelector("#key").hidden = false;
  const document_ = await response.json();
  if (!response.ok) throw new Error(document_.error ?? response.statusText);
  return document_;
}

function numbers(figures) {
  const ms = (value) => (value === null ? "–" : `${value.toPrecision(3)} ms`);
  return [
    ["requests", figures.requests], ["rows", figures.rows], ["mean batch", figures.mean_batch || "–"], ["p50", ms(figures.p50_ms)],
    ["p99", ms(figures.p99_ms)], ["waiting", figures.waiting], ["refused", figures.refused],
  ];
}

function verdictOf(model) {
  if (model.verdict === "same") return ["proven the same network", "good"];
  if (model.verdict) return [`verdict: ${model.verdict}`, "bad"];
  return [model.has_contract ? "not proven" : "no contract", ""];
}

function aboutOf(model) {
  const input = model.input;
  const parts = [`version ${model.version} on ${model.device}`];
  if (model.network) parts.push(model.network);
  if (model.takes_images) parts.push(`images, ${input.channels === 1 ? "grey" : "RGB"} ${input.height}x${input.width}`);
  if (model.labels) parts.push(`${model.labels.length} labels`);
  parts.push(model.shares_runs ? `up to ${model.max_batch_size} rows a run` : `one request a run${model.note ? `: ${model.note}` : ""}`);
  return parts.join(" · ");
}

function made(model) {
  const article = document.querySelector("#model").content.cloneNode(true).firstElementChild;
  article.dataset.model = model.name;
  article.querySelector("h2").textContent = model.name;
  const [words, kind] = verdictOf(model);
  article.querySelector(".verdict").textContent = words;
  if (kind) article.querySelector(".verdict").classList.add(kind);
  article.querySelector(".about").textContent = aboutOf(model);
  article.querySelector("pre").textContent = JSON.stringify({ ...model.tensors, input: model.input, labels: model.labels }, null, 1);
  if (model.takes_images) takeImages(article, model);
  models.append(article);
  return article;
}

function takeImages(article, model) {
  article.querySelector(".ask").hidden = false;
  const drop = article.querySelector(".drop");
  const file = article.querySelector("input[type=file]");
  const ask = (blob) => show(article, model, blob);
  file.addEventListener("change", () => file.files[0] && ask(file.files[0]));
  drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (event.dataTransfer.files[0]) ask(event.dataTransfer.files[0]);
  });
  drop.addEventListener("paste", (event) => event.clipboardData.files[0] && ask(event.clipboardData.files[0]));
  const digits = model.labels?.length === 10 && model.labels.every((label, place) => label === String(place));
  if (digits) draw(article, ask);
}

// White strokes on black, as the digits that such networks learn from.
function draw(article, ask) {
  const canvas = article.querySelector("canvas");
  const pen = canvas.getContext("2d");
  const clear = () => { pen.fillStyle = "#000"; pen.fillRect(0, 0, canvas.width, canvas.height); };
  clear();
  canvas.hidden = article.querySelector(".buttons").hidden = false;
  Object.assign(pen, { lineWidth: 22, lineCap: "round", lineJoin: "round", strokeStyle: "#fff" });
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * canvas.width / box.width, (event.clientY - box.top) * canvas.height / box.height];
  };
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); pen.beginPath(); pen.moveTo(...at(event)); });
  canvas.addEventListener("pointermove", (event) => { if (event.buttons) { pen.lineTo(...at(event)); pen.stroke(); } });
  article.querySelector(".ask-drawn").addEventListener("click", () => canvas.toBlob(ask, "image/png"));
  article.querySelector(".clear").addEventListener("click", () => { clear(); article.querySelector(".answer").replaceChildren(); });
}

async function show(article, model, blob) {
  const image = article.querySelector(".drop img");
  if (image.src) URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(blob);
  image.hidden = false;
  const answer = article.querySelector(".answer");
  try {
    const path = `v2/models/${encodeURIComponent(model.name)}/predict?top=5`;
    const said = await asked(path, { method: "POST", body: blob, headers: { "Content-Type": blob.type || "application/octet-stream" } });
    answer.replaceChildren(...rows(said.predictions[0]));
  } catch (error) {
    const line = document.createElement("p");
    line.className = "error";
    line.textContent = error.message;
    answer.replaceChildren(line);
  }
  await refresh();
}

function rows(prediction) {
  if (!prediction.top.length) {
    const line = document.createElement("pre");
    const { label, score, top, error, ...said } = prediction; // of another task than classification
    line.textContent = JSON.stringify(said, null, 1).slice(0, 4000);
    return [line];
  }
  return prediction.top.map(({ label, score }) => {
    const row = document.createElement("div");
    row.className = "row";
    const [name, bar, share] = [document.createElement("span"), document.createElement("div"), document.createElement("span")];
    name.textContent = label;
    bar.className = "bar";
    const fill = document.createElement("i");
    fill.style.width = `${Math.max(0, Math.min(1, score)) * 100}%`;
    bar.append(fill);
    share.textContent = score >= 0 && score <= 1 ? `${(score * 100).toFixed(1)} %` : score.toPrecision(4);
    row.append(name, bar, share);
    return row;
  });
}

async function refresh() {
  try {
    const said = await asked("page/models.json");
    state.textContent = said.ready ? "ready" : "not ready";
    const now = new Set();
    for (const model of said.models) {
      const key = JSON.stringify([model.name, model.version, model.loaded_at]);
      now.add(key);
      if (!shown.has(key)) shown.set(key, made(model));
      shown.get(key).querySelector(".figures").replaceChildren(...numbers(model.live).map(([name, value]) => {
        const cell = document.createElement("div");
        const [term, number] = [document.createElement("dt"), document.createElement("dd")];
        term.textContent = name;
        number.textContent = value;
        number.dataset.figure = name;
        cell.append(term, number);
        return cell;
      }));
    }
    for (const [key, article] of shown) if (!now.has(key)) { article.remove(); shown.delete(key); }
  } catch (error) {
    state.textContent = `no answer: ${error.message}`;
  }
}

document.querySelector("#key").addEventListener("submit", (event) => {
  event.preventDefault();
  token = document.querySelector("#token").value;
  sessionStorage.setItem("token", token);
  document.querySelector("#key").hidden = true;
  refresh();
});

await refresh();
setInterval(refresh, 1000);
