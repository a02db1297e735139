/** Lines of each record missing from the other, in order: the rest without a longest common subsequence */
export function lineDifference(node, roomcast) {
  const common = Array.from({ length: node.length + 1 }, () => new Uint16Array(roomcast.length + 1));
  for (let left = node.length - 1; left >= 0; left -= 1) {
    for (let right = roomcast.length - 1; right >= 0; right -= 1) {
      common[left][right] =
        node[left] === roomcast[right]
          ? common[left + 1][right + 1] + 1
          : Math.max(common[left + 1][right], common[left][right + 1]);
    }
  }
  const found = { node: [], roomcast: [] };
  let [left, right] = [0, 0];
  while (left < node.length || right < roomcast.length) {
    if (left < node.length && right < roomcast.length && node[left] === roomcast[right]) {
      left += 1;
      right += 1;
    } else if (right >= roomcast.length || (left < node.length && common[left + 1][right] >= common[left][right + 1])) {
      found.node.push(node[left]);
      left += 1;
    } else {
      found.roomcast.push(roomcast[right]);
      right += 1;
    }
  }
  return found;
}
