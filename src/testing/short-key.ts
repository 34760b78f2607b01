/** Characters of a key. */
const KEY_SHOWN = 32;

/** A key for a message: as much of it as tells it from others. */
export function shortKey(key: string): string {
  return key.length > KEY_SHOWN ? `${key.slice(0, KEY_SHOWN)}...` : key;
}
