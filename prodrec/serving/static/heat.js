/** A heat map, painted: a square of numbers to colours that lie over a photo. */

/**
 * Paints heat on a canvas and lays it over the photo. What hiding helps (below 0) stays clear.
 *
 * @param canvas in a box that is as large as the photo.
 * @param heat rows of numbers from the top; it lies over `frame` (x1, y1, x2, y2) of an upright photo of `width` x `height` pixels.
 */
export function paint(canvas, { heat, frame, width, height }) {
  const hottest = Math.max(1e-12, ...heat.map((row) => Math.max(...row)));
  fill(canvas, heat[0].length, heat.length, (x, y) => Math.min(1, Math.max(0, heat[y][x] / hottest)));
  const [left, top, right, bottom] = frame;
  const percent = (length, whole) => `${(100 * length) / whole}%`;
  Object.assign(canvas.style, { left: percent(left, width), top: percent(top, height) });
  Object.assign(canvas.style, { width: percent(right - left, width), height: percent(bottom - top, height) });
}

/** Paints the colours from little to much. */
export function paintScale(canvas) {
  fill(canvas, canvas.width, 1, (x) => x / (canvas.width - 1));
}

function fill(canvas, width, height, shareAt) {
  Object.assign(canvas, { width, height });
  const image = new ImageData(width, height);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at += 4) {
      const share = shareAt(x, y);
      const [red, green, blue] = turbo(share);
      image.data.set([red, green, blue, 255 * share ** 0.7], at);
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Red, green, blue (0 to 255) of a share from 0 to 1. Source: Mikhailov 2019, Turbo, its polynomial of degree 5. */
function turbo(x) {
  const polynomial = (...factors) => Math.min(255, Math.max(0, 255 * factors.reduceRight((sum, factor) => sum * x + factor, 0)));
  return [
    polynomial(0.13572138, 4.6153926, -42.66032258, 132.13108234, -152.94239396, 59.28637943),
    polynomial(0.09140261, 2.19418839, 4.84296658, -14.18503333, 4.27729857, 2.82956604),
    polynomial(0.1066733, 12.64194608, -60.58204836, 110.36276771, -89.90310912, 27.34824973),
  ];
}
