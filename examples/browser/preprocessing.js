// An image -> the network's input, by the rules of the contract: the same pixels as deploykit.runtime makes with Pillow, to the bit.
//
// `preprocess({ data, width, height }, rules)`: `data` is RGBA, as `getImageData` gives it, upright; `rules` is the contract's `input`.
// Gives a Float32Array (channels, height, width). The formulas of the resize are those of Pillow's Resample.c and Geometry.c.

const PRECISION_BITS = 22; // 32 - 8 bits of a pixel - 2 of head room
const SUPPORT = { bilinear: 1, bicubic: 2 };

/** Where an image lies in the input: its size between resize and crop, and the first pixel of it that the input shows. */
export function placed(width, height, rules) {
  const [wide, high] = [rules.width, rules.height];
  if (rules.fit === "stretch") return { resized: [wide, high], first: [0, 0] };
  if (rules.fit === "letterbox") {
    // In whole numbers; half a pixel is rounded up.
    const fits = wide * height <= high * width;
    const resized = fits
      ? [wide, Math.max(1, Math.floor((2 * height * wide + width) / (2 * width)))]
      : [Math.max(1, Math.floor((2 * width * high + height) / (2 * height))), high];
    const before = (missing) => (rules.placement === "top-left" ? 0 : -Math.floor(missing / 2) || 0);
    return { resized, first: [before(wide - resized[0]), before(high - resized[1])] };
  }
  const side = rules.resize;
  const resized = width <= height ? [side, Math.trunc((side * height) / width)] : [Math.trunc((side * width) / height), side];
  return { resized, first: [cropStart(resized[0], wide), cropStart(resized[1], high)] };
}

/** Half of what is left over, half to even; of what is missing, rounded down, as a negative number. */
function cropStart(size, wanted) {
  if (size < wanted) return -Math.floor((wanted - size) / 2);
  const half = (size - wanted) / 2;
  const low = Math.floor(half);
  return half - low === 0.5 ? low + (low % 2) : Math.round(half);
}

/** RGBA -> one plane of bytes per channel, what is transparent on the contract's background. */
function planes({ data, width, height }, rules) {
  const found = Array.from({ length: rules.channels }, () => new Uint8Array(width * height));
  for (let place = 0; place < width * height; place += 1) {
    const alpha = data[4 * place + 3] / 255;
    const colour = [0, 1, 2].map((channel) => {
      const level = data[4 * place + channel];
      return alpha === 1 ? level : Math.round(level * alpha + rules.background * (1 - alpha));
    });
    if (rules.channels === 3) colour.forEach((level, channel) => (found[channel][place] = level));
    else found[0][place] = (colour[0] * 19595 + colour[1] * 38470 + colour[2] * 7471 + 0x8000) >> 16;
  }
  return found;
}

function kernel(name, x) {
  const far = Math.abs(x);
  if (name === "bilinear") return far < 1 ? 1 - far : 0;
  const a = -0.5;
  if (far < 1) return ((a + 2) * far - (a + 3)) * far * far + 1;
  return far < 2 ? (((far - 5) * far + 8) * far - 4) * a : 0;
}

/** For every output pixel the first input pixel that counts, and whole-number weights. */
function weights(have, resized, name) {
  const scale = have / resized;
  const stretch = Math.max(scale, 1);
  const support = SUPPORT[name] * stretch;
  return Array.from({ length: resized }, (_, place) => {
    const center = (place + 0.5) * scale;
    const low = Math.max(Math.trunc(center - support + 0.5), 0);
    const high = Math.min(Math.trunc(center + support + 0.5), have);
    const shares = Array.from({ length: high - low }, (_, x) => kernel(name, (x + low - center + 0.5) * (1 / stretch)));
    const total = shares.reduce((a, b) => a + b, 0);
    const whole = shares.map((share) => {
      const value = (total === 0 ? share : share / total) * 2 ** PRECISION_BITS;
      return value < 0 ? Math.trunc(value - 0.5) : Math.trunc(value + 0.5);
    });
    return { low, whole };
  });
}

/** Sums of pixels x weights along one axis, rounded to 8 bits. */
function pass(plane, width, height, resized, name, alongWidth) {
  const have = alongWidth ? width : height;
  if (have === resized) return plane;
  const table = weights(have, resized, name);
  const [outWidth, outHeight] = alongWidth ? [resized, height] : [width, resized];
  const found = new Uint8Array(outWidth * outHeight);
  const [step, row] = alongWidth ? [1, width] : [width, 1];
  for (let y = 0; y < outHeight; y += 1) {
    for (let x = 0; x < outWidth; x += 1) {
      const { low, whole } = table[alongWidth ? x : y];
      let at = (alongWidth ? y * row : x) + low * step;
      let sum = 2 ** (PRECISION_BITS - 1);
      for (const weight of whole) {
        sum += plane[at] * weight;
        at += step;
      }
      found[y * outWidth + x] = Math.min(255, Math.max(0, Math.floor(sum / 2 ** PRECISION_BITS)));
    }
  }
  return found;
}

/** Which axis comes first shows in the pixels: the height where it shrinks by more than twice as many as the width. */
function resize(plane, width, height, [wide, high], name) {
  if (name === "nearest") return nearest(plane, width, height, wide, high);
  const [lessWidth, lessHeight] = [width - wide, height - high];
  if (lessHeight > 0 && lessHeight > 2 * lessWidth) {
    return pass(pass(plane, width, height, high, name, false), width, high, wide, name, true);
  }
  return pass(pass(plane, width, height, wide, name, true), wide, height, high, name, false);
}

function nearest(plane, width, height, wide, high) {
  const positions = (have, resized) => {
    const step = have / resized;
    let at = step * 0.5;
    return Array.from({ length: resized }, (_, place) => Math.trunc(place ? (at += step) : at));
  };
  const [columns, rows] = [positions(width, wide), positions(height, high)];
  const found = new Uint8Array(wide * high);
  rows.forEach((row, y) => columns.forEach((column, x) => (found[y * wide + x] = plane[row * width + column])));
  return found;
}

/** Cut or padded -> (height, width) of the input. */
function fitted(plane, [wide, high], [left, top], rules, level) {
  const found = new Uint8Array(rules.width * rules.height).fill(level);
  for (let y = Math.max(0, -top); y < Math.min(rules.height, high - top); y += 1) {
    for (let x = Math.max(0, -left); x < Math.min(rules.width, wide - left); x += 1) {
      found[y * rules.width + x] = plane[(y + top) * wide + x + left];
    }
  }
  return found;
}

/** uint8 (channels, height, width), the colours in the network's order. */
export function pixels(image, rules) {
  const { resized, first } = placed(image.width, image.height, rules);
  const found = planes(image, rules);
  if (rules.order === "bgr") found.reverse();
  const padding = rules.padding ?? [0];
  const area = rules.width * rules.height;
  const all = new Uint8Array(rules.channels * area);
  found.forEach((plane, channel) => {
    const small = resize(plane, image.width, image.height, resized, rules.interpolation);
    const level = rules.fit === "letterbox" ? padding[channel % padding.length] : 0;
    all.set(fitted(small, resized, first, rules, level), channel * area);
  });
  return all;
}

/** Float32Array (channels, height, width): x scale, - mean, / std, each step in 32 bits. */
export function preprocess(image, rules) {
  const levels = pixels(image, rules);
  const area = rules.width * rules.height;
  const found = new Float32Array(levels.length);
  for (let channel = 0; channel < rules.channels; channel += 1) {
    const std = Math.fround(rules.std[channel % rules.std.length]);
    const factor = Math.fround(Math.fround(rules.scale) / std);
    const offset = Math.fround(Math.fround(rules.mean[channel % rules.mean.length]) / std);
    for (let place = channel * area; place < (channel + 1) * area; place += 1) {
      found[place] = Math.fround(Math.fround(levels[place] * factor) - offset);
    }
  }
  return found;
}

/** Scores (labels, h, w) of an input -> the index of the best label of every pixel of the image; 255 where it was not seen. */
export function mask(scores, [labels, h, w], width, height, rules) {
  const { resized, first } = placed(width, height, rules);
  const along = (size, axis, count, side) =>
    Array.from({ length: size }, (_, place) => {
      const at = (place + 0.5) * (resized[axis] / size) - first[axis];
      const on = Math.min(count - 1, Math.max(0, (at * count) / side - 0.5));
      const low = Math.floor(on);
      return { low, high: Math.min(low + 1, count - 1), share: on - low, seen: at >= 0 && at < side };
    });
  const [columns, rows] = [along(width, 0, w, rules.width), along(height, 1, h, rules.height)];
  const found = new Uint8Array(width * height);
  rows.forEach((row, y) =>
    columns.forEach((column, x) => {
      if (!row.seen || !column.seen) {
        found[y * width + x] = 255;
        return;
      }
      let best = -Infinity;
      for (let label = 0; label < labels; label += 1) {
        const at = (r, c) => scores[(label * h + r) * w + c];
        const mix = (c) => at(row.low, c) + (at(row.high, c) - at(row.low, c)) * row.share;
        const score = mix(column.low) + (mix(column.high) - mix(column.low)) * column.share;
        if (score > best) {
          best = score;
          found[y * width + x] = label;
        }
      }
    }),
  );
  return found;
}
