import { randomBytes } from 'node:crypto';
import { CLIENT_BYTES } from './once.ts';

/** A client's own bytes, which no other client has: under them its puts can be asked again. */
export function drawClientId(): Uint8Array {
  return new Uint8Array(randomBytes(CLIENT_BYTES));
}
