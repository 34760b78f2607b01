import { Sfc32 } from '../../core/index.ts';
import { DEVICE_KEY_PATH, Keystored, readDeviceKey, type StatePort, verifySignature } from '../../statefsd/index.ts';
import type { ServiceWorkload } from './service-scenario.ts';

const CHALLENGE = new TextEncoder().encode('who are you?');

/** The seed of the nth key, so that a run is the same every time. */
function seedOf(generation: number): Uint8Array {
  const seed = new Uint8Array(32);
  new Sfc32(generation).fill(seed);
  return seed;
}

/** A key store whose next key is that of the generation after the one that is found. It signs for the key it shows. */
async function openKeystored(store: StatePort): Promise<Keystored> {
  let generation = 0;
  const keystored = new Keystored(store, { generateSeed: () => seedOf(generation + 1) });
  const key = await keystored.open();
  ({ generation } = key);
  const { signature } = await keystored.sign(CHALLENGE);
  if (!verifySignature(key.publicKey, CHALLENGE, signature)) throw new Error('it signs with another key than it shows');
  return keystored;
}

/** `keystored` itself: a device key is created once, signs, and is rotated. There is, at no cut, half a key. */
export const keystoredService: ServiceWorkload = {
  name: 'keystored',
  description: 'the Ed25519 device key of keystored: created once, signing, rotated',
  sectorCount: 512,
  work: async (store, restart) => {
    await openKeystored(store);
    for (let rotation = 0; rotation < 2; rotation++) {
      restart();
      await (await openKeystored(store)).rotate();
    }
  },
  comeUp: async (store) => void (await (await openKeystored(store)).rotate()),
  rule: (found) => {
    const record = found(DEVICE_KEY_PATH);
    // A record is read only if it is a whole key: both halves, and the endorsement of the one before.
    if (record !== undefined) readDeviceKey(record);
  },
};
