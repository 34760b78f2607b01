import { shortHex } from './steps.ts';

/** Anything, in one line of at most so many characters: JSON, and in words what JSON has none for. */
export function briefly(value: unknown, maxCharacters: number): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(value, function (this: Record<string, unknown>, key) {
      return plainValue(this[key]);
    });
  } catch {
    // A cycle: its kind will have to do, as for a function.
  }
  text ??= Object.prototype.toString.call(value);
  return text.length > maxCharacters ? `${text.slice(0, maxCharacters)}...` : text;
}

function plainValue(value: unknown): unknown {
  if (value instanceof Uint8Array) return `${value.length} bytes ${shortHex(value)}`;
  if (value instanceof Map) return Object.fromEntries(value);
  if (value instanceof Set) return [...value];
  return typeof value === 'bigint' ? value.toString() : value;
}
