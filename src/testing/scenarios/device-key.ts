import { Sfc32 } from '../../core/index.ts';
import type { KeyValueContent } from '../../explore/index.ts';
import type { StateFsWorkload } from './statefs-scenario.ts';

const KEY = '/state/keystore/device.key';
const PREVIOUS_KEY = '/state/keystore/device.key.previous';
const KEY_BYTES = 32;

function keyMaterial(number: number): Uint8Array {
  const key = new Uint8Array(KEY_BYTES);
  new Sfc32(number).fill(key);
  return key;
}

/** There is never half a key. */
function isWholeKey(content: KeyValueContent): void {
  for (const [key, value] of content) {
    if (key.startsWith('/state/keystore/') && value.length !== KEY_BYTES) {
      throw new Error(`${key}: expected ${KEY_BYTES} bytes, got ${value.length}`);
    }
  }
}

/** A device key is created once, used over a restart, rotated, and its predecessor erased. */
export const deviceKey: StateFsWorkload = {
  name: 'device-key',
  description: 'a 32-byte device key that is created and rotated',
  sectorCount: 512,
  operations: [
    { kind: 'put', key: KEY, value: keyMaterial(1) },
    'reopen',
    { kind: 'put', key: PREVIOUS_KEY, value: keyMaterial(1) },
    { kind: 'put', key: KEY, value: keyMaterial(2) },
    { kind: 'delete', key: PREVIOUS_KEY },
  ],
  rule: isWholeKey,
};
