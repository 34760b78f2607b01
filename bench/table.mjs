const GAP = '  ';

/**
 * An aligned table; columns after the first `textColumns` hold figures and are aligned to the right.
 * @param {string[]} head
 * @param {string[][]} rows a row shorter than the head is a remark: its last cell runs over the columns that are left
 */
export function formatTable(head, rows, textColumns = 1) {
  const whole = [head, ...rows.filter((row) => row.length === head.length)];
  const widths = head.map((_, column) => Math.max(...whole.map((row) => row[column].length)));
  const padded = (cell, column) => (column < textColumns ? cell.padEnd(widths[column]) : cell.padStart(widths[column]));
  const line = (row) => {
    const isRemark = row.length < head.length;
    return row.map((cell, column) => (isRemark && column === row.length - 1 ? cell : padded(cell, column))).join(GAP);
  };
  const rule = widths.map((width) => '-'.repeat(width)).join(GAP);
  return [line(head).trimEnd(), rule, ...rows.map((row) => line(row).trimEnd())].join('\n');
}

/** @param {number} value */
export function fixed(value, digits = 1) {
  return value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** A ratio with its unit: `1.83x`. */
export function times(value) {
  return `${fixed(value, 2)}x`;
}

/** Whether a figure that is to be at least (or, for times, at most) the goal is. */
export function verdict(isMet) {
  return isMet ? 'met' : 'MISSED';
}
