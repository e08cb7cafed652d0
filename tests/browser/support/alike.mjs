// A comparison of a recording with its source by cross-correlation.

const COARSE = 16;

/**
 * Returns the position in an endlessly repeated source that fits a piece of a recording best.
 */
export function whereAlike(piece, source) {
  // A coarse search over all positions of decimated sound; then a fine search around the best one.
  const rough = best(decimated(piece), decimated(source), 0, Math.floor(source.length / COARSE));
  return best(piece, source, (rough - 2) * COARSE, (rough + 2) * COARSE);
}

/**
 * Returns the fit of a piece at a position of the source: the normalised cross-correlation, 1 for equal sounds and 0
 * for unrelated sounds.
 */
export function alikeAt(at, piece, source) {
  let [product, power, energy] = [0, 0, 0];
  let place = ((at % source.length) + source.length) % source.length;
  for (const sample of piece) {
    product += sample * source[place];
    power += source[place] * source[place];
    energy += sample * sample;
    if (++place === source.length) place = 0;
  }
  return product / Math.sqrt(energy * power || 1);
}

function best(piece, source, from, to) {
  let [place, most] = [from, -1];
  for (let at = from; at < to; at++) {
    const score = alikeAt(at, piece, source);
    if (score > most) [place, most] = [at, score];
  }
  return place;
}

function decimated(sound) {
  return Float32Array.from({ length: Math.floor(sound.length / COARSE) }, (_, n) => {
    let sum = 0;
    for (let i = 0; i < COARSE; i++) sum += sound[n * COARSE + i];
    return sum / COARSE;
  });
}
