import { InvalidArgumentError } from 'commander';

const SIZES: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  k: 1024,
  kib: 1024,
  m: 1024 ** 2,
  mib: 1024 ** 2,
  g: 1024 ** 3,
  gib: 1024 ** 3,
};
const TIMES_MS: Readonly<Record<string, number>> = { ms: 1, '': 1000, s: 1000, m: 60_000, min: 60_000, h: 3_600_000 };

/** `64K`, `1M`, `4096`: bytes. */
export function parseSize(text: string): number {
  return Math.round(parseWithUnit(text, SIZES, 'a size such as 4096, 64K or 1M'));
}

/** `30`, `30s`, `500ms`, `5m`: milliseconds. */
export function parseTimeMs(text: string): number {
  return parseWithUnit(text, TIMES_MS, 'a time such as 30s, 500ms or 5m');
}

/** A whole number of at least `minimum`. */
export function parseCount(minimum: number, maximum: number = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (Number.isSafeInteger(value) && value >= minimum && value <= maximum) return value;
    const range = maximum === Number.MAX_SAFE_INTEGER ? `of at least ${minimum}` : `from ${minimum} to ${maximum}`;
    throw new InvalidArgumentError(`expected a whole number ${range}, got ${JSON.stringify(text)}`);
  };
}

function parseWithUnit(text: string, units: Readonly<Record<string, number>>, expected: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text);
  const unit = match === null ? undefined : (match[2] as string).toLowerCase();
  const factor = unit !== undefined && Object.hasOwn(units, unit) ? units[unit] : undefined;
  const value = factor === undefined ? Number.NaN : Number(match?.[1]) * factor;
  if (Number.isFinite(value) && value > 0 && value <= Number.MAX_SAFE_INTEGER) return value;
  throw new InvalidArgumentError(`expected ${expected}, got ${JSON.stringify(text)}`);
}

/** An image count for people: exact while it is readable, then a power of ten. */
export function formatCount(value: bigint | number): string {
  const digits = value.toString();
  if (digits.length <= 15) return digits.replace(/\B(?=(\d{3})+$)/g, ',');
  return `~${digits[0]}.${digits[1]}e${digits.length - 1}`;
}

/** `1 key`, `2 keys`. */
export function countOf(value: number, noun: string): string {
  return `${formatCount(value)} ${noun}${value === 1 ? '' : 's'}`;
}

/** A span of time for people. */
export function formatMs(ms: number): string {
  if (ms < 1000) return `${ms.toFixed(0)} ms`;
  return ms < 60_000
    ? `${(ms / 1000).toFixed(1)} s`
    : `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}

/** Bytes for people: `15.9 MiB`. */
export function formatBytes(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024;
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}
