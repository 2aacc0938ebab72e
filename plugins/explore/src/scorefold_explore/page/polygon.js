// The numbers of the points inside a polygon of the same coordinates as the positions: crossings to the right are odd.
export function inside(positions, polygon, hidden) {
  const found = [];
  for (let point = 0; point < positions.length / 2; point += 1) {
    const [x, y] = [positions[2 * point], positions[2 * point + 1]];
    let odd = false;
    for (let corner = 0, before = polygon.length - 1; corner < polygon.length; before = corner, corner += 1) {
      const [[a, b], [c, d]] = [polygon[corner], polygon[before]];
      if ((b > y) !== (d > y) && x < (c - a) * (y - b) / (d - b) + a) odd = !odd;
    }
    if (odd && !hidden?.[point]) found.push(point);
  }
  return found;
}
