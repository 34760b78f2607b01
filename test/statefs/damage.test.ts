import { describe, expect, it } from 'vitest';
import { Sfc32 } from '../../src/core/index.ts';
import { open, type StateFs, StateFsError } from '../../src/statefs/index.ts';
import { SUPERBLOCK } from '../../src/statefs/layout.ts';
import { bytes, codeThrown, deviceOf, formatted, imageOf, reopen } from './helpers.ts';

/** A small store with every kind of record in it. */
function sample(clean: boolean): { image: Uint8Array; model: Map<string, Uint8Array> } {
  const device = formatted(256);
  const model = new Map<string, Uint8Array>();
  let store = open(device);
  const put = (key: string, value: Uint8Array, commit: 'ordered' | 'checksummed' = 'checksummed') => {
    store.putAtomic(key, value, { commit, meta: { ts: 1 } });
    model.set(key, value);
  };
  put('/state/small', bytes(20));
  put('/state/inline', bytes(1200, 2), 'ordered');
  put('/state/extent', bytes(5000, 3));
  put('/state/gone', bytes(10, 4));
  store = open(device);
  put('/state/small', bytes(30, 5));
  store.delete('/state/gone');
  model.delete('/state/gone');
  put('/state/last', bytes(40, 6));
  if (clean) store.close();
  return { image: imageOf(device), model };
}

/** A value that the store gives is the right one; everything else is an error with a code. @returns damaged keys */
function audit(store: StateFs, model: ReadonlyMap<string, Uint8Array>, allowed: (key: string) => string[]): string[] {
  const damaged: string[] = [];
  for (const [key, value] of model) {
    let got: Uint8Array | undefined;
    const code = codeThrown(() => {
      got = store.get(key);
    });
    if (code === 'none') expect(Buffer.compare(got as Uint8Array, value), key).toBe(0);
    else {
      expect(allowed(key), `${key}: ${code}`).toContain(code);
      damaged.push(key);
    }
  }
  return damaged;
}

/** Addresses in sectors that are not all zeros. */
function usedBytes(image: Uint8Array, step: number): number[] {
  const used: number[] = [];
  for (let at = 0; at < image.length; at += step) {
    const sector = at - (at % 512);
    if (image.subarray(sector, sector + 512).some((byte) => byte !== 0)) used.push(at);
  }
  return used;
}

describe('a lost stretch', () => {
  // Later groups rewrite keys of earlier ones, so that a loss that nobody notices would give a stale value.
  const device = formatted(256);
  const store = open(device);
  const model = new Map<string, Uint8Array>();
  for (let i = 0; i < 24; i++) {
    model.set(`/state/${i % 8}`, bytes(30 + 40 * i, i));
    store.putAtomic(`/state/${i % 8}`, model.get(`/state/${i % 8}`) as Uint8Array, { meta: { ts: 1 } });
  }
  const end = (device.sectorCount - 16) / 2 + 16 - store.stats().freeBytes / 512;
  store.close();
  const image = imageOf(device);

  it('of the log, wherever it starts and ends, is never silent', () => {
    for (let start = 16; start < end; start++) {
      for (const length of [1, 2, 3, 5, 8, 16, 40]) {
        const holed = image.slice();
        holed.fill(0, start * 512, Math.min(start + length, end) * 512);
        const where = `sectors ${start}..${start + length - 1}`;
        const opened = reopen(deviceOf(holed));
        audit(opened, model, () => ['EINTEGRITY']);
        expect(opened.stats().damage, where).not.toEqual([]);
      }
    }
  });
});

/** Flips bit `byte % 8` of each byte of a cleanly closed image in turn. */
describe('one flipped bit', () => {
  const { image, model } = sample(true);
  const keys = [...model.keys()].sort();

  it('anywhere in a cleanly closed image gives the right bytes or EINTEGRITY, for one key at most', () => {
    let harmless = 0;
    let detected = 0;
    // Free space is zeros; it is probed in the next test.
    for (const at of usedBytes(image, 1)) {
      const flipped = image.slice();
      flipped[at] = (flipped[at] as number) ^ (1 << (at % 8));
      const store = reopen(deviceOf(flipped));
      const damaged = audit(store, model, () => ['EINTEGRITY']);
      expect(damaged.length, `byte ${at}: ${damaged}`).toBeLessThanOrEqual(1);
      expect(store.list(), `byte ${at}`).toEqual(keys);
      expect(codeThrown(() => store.get('/state/gone'))).toBe('ENOENT');
      if (damaged.length > 0) detected++;
      else harmless++;
      if (at % 16 === 0) {
        // It takes new puts, and the damaged key is whole again after one.
        const device = deviceOf(flipped);
        reopen(device).putAtomic('/state/small', bytes(3, 9));
        expect(reopen(device).get('/state/small')).toEqual(bytes(3, 9));
      }
    }
    expect(detected).toBeGreaterThan(1000);
    expect(harmless).toBeGreaterThan(1000);
  });

  it('in free space changes nothing', () => {
    for (let at = 100; at < image.length; at += 512) {
      if (!image.subarray(at - 100, at + 412).every((byte) => byte === 0)) continue;
      const flipped = image.slice();
      flipped[at] = 1;
      expect(audit(reopen(deviceOf(flipped)), model, () => [])).toEqual([]);
    }
  });

  it('in an image that was not closed never gives wrong bytes: only the last record may count as torn', () => {
    const unclean = sample(false);
    for (const at of usedBytes(unclean.image, 3)) {
      const flipped = unclean.image.slice();
      flipped[at] = (flipped[at] as number) ^ 0x10;
      const store = reopen(deviceOf(flipped));
      const damaged = audit(store, unclean.model, (key) =>
        key === '/state/last' ? ['EINTEGRITY', 'ENOENT'] : ['EINTEGRITY'],
      );
      expect(damaged.length, `byte ${at}: ${damaged}`).toBeLessThanOrEqual(1);
    }
  });
});

describe('damage to whole sectors', () => {
  const { image, model } = sample(true);

  it('reports each lost sector; everything else stays readable', () => {
    for (let sector = 0; sector < image.length / 512; sector++) {
      for (const fill of [0, 0xff]) {
        const damagedImage = image.slice();
        damagedImage.fill(fill, sector * 512, sector * 512 + 512);
        const store = reopen(deviceOf(damagedImage));
        const damaged = audit(store, model, () => ['EINTEGRITY']);
        expect(damaged.length, `sector ${sector}: ${damaged}`).toBeLessThanOrEqual(1);
      }
    }
  });

  it('refuses what may be stale where a whole group is lost, and gives it on request', () => {
    // Groups stand from sector 16 on: small (2 sectors), inline (5), extent (2), gone (2), small again (2), ...
    const damagedImage = image.slice();
    damagedImage.fill(0, 28 * 512, 30 * 512);
    const store = reopen(deviceOf(damagedImage));
    expect(store.stats().damage).toMatchObject([{ sector: 28, keys: [] }]);
    // The lost group may have written any key that nothing later wrote.
    for (const key of ['/state/small', '/state/inline', '/state/extent']) {
      expect(codeThrown(() => store.get(key))).toBe('EINTEGRITY');
    }
    expect(store.get('/state/last')).toEqual(model.get('/state/last'));
    expect(codeThrown(() => store.get('/state/unheard-of'))).toBe('EINTEGRITY');
    expect(codeThrown(() => store.list())).toBe('EINTEGRITY');
    const salvage = reopen(deviceOf(damagedImage), { acceptStale: true });
    expect(salvage.get('/state/inline')).toEqual(model.get('/state/inline'));
    // What was lost is a delete: without it the key is back, which is why it takes a request.
    expect(salvage.list()).toEqual(['/state/extent', '/state/gone', '/state/inline', '/state/last', '/state/small']);
    // Writing a key anew settles it.
    store.putAtomic('/state/inline', bytes(7));
    expect(store.get('/state/inline')).toEqual(bytes(7));
  });
});

describe('superblocks', () => {
  it('losing either copy loses nothing, before and after new writes, whichever is lost next', () => {
    for (const clean of [true, false]) {
      const { image, model } = sample(clean);
      for (const first of [0, 8]) {
        const damagedImage = image.slice();
        damagedImage.fill(0xee, first * 512, first * 512 + 512);
        const device = deviceOf(damagedImage);
        expect(audit(reopen(device), model, () => [])).toEqual([]);
        reopen(device).putAtomic('/state/small', bytes(9, 9));
        for (const second of [0, 8]) {
          const again = deviceOf(imageOf(device));
          again.write(second, new Uint8Array(512).fill(0x11));
          const store = reopen(again);
          expect(store.get('/state/small')).toEqual(bytes(9, 9));
          expect(store.get('/state/extent')).toEqual(model.get('/state/extent'));
        }
      }
    }
  });

  it('refuses when both are gone', () => {
    const { image } = sample(true);
    image.fill(0xee, 0, 512);
    image[9 * 512 - 1] = (image[9 * 512 - 1] as number) ^ 1;
    expect(codeThrown(() => reopen(deviceOf(image)))).toBe('EINTEGRITY');
  });

  it('refuses a format or feature that it does not know', () => {
    const { image } = sample(true);
    for (const [offset, value] of [
      [8, 2],
      [12, 0x40],
      [16, 1],
    ] as const) {
      const changed = image.slice();
      for (const copy of [0, 8]) {
        changed[copy * 512 + offset] = value;
        reseal(changed, copy * 512);
      }
      expect(codeThrown(() => reopen(deviceOf(changed)))).toBe('EPROTO');
    }
  });
});

function reseal(image: Uint8Array, at: number): void {
  let crc = -1;
  for (const byte of image.subarray(at, at + 508)) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  new DataView(image.buffer).setUint32(at + 508, ~crc >>> 0, true);
}

describe('what is no image', () => {
  const cases: [string, Uint8Array, string][] = [
    ['zeros', new Uint8Array(131_072), 'EINVAL'],
    ['ones', new Uint8Array(131_072).fill(0xff), 'EINVAL'],
    ['noise', noise(131_072), 'EINVAL'],
    ['a single sector', new Uint8Array(512), 'EINVAL'],
    ['an image cut short', sample(true).image.slice(0, 65_536), 'EINTEGRITY'],
  ];
  it.each(cases)('%s: a clear coded error', (_name, image, code) => {
    const device = deviceOf(image);
    expect(codeThrown(() => open(device))).toBe(code);
    expect(() => open(device)).toThrow(StateFsError);
  });

  it('noise after good superblocks is an empty log', () => {
    const device = formatted(1024);
    const image = imageOf(device);
    image.set(noise(1024 * 512 - 16 * 512), 16 * 512);
    const store = reopen(deviceOf(image));
    expect(store.list()).toEqual([]);
    expect(store.stats().damage).toEqual([]);
  });

  it('a device of other sectors is refused', () => {
    const { image } = sample(true);
    expect(codeThrown(() => reopen(deviceOf(image, 4096)))).toBe('EINVAL');
  });
});

describe('lies under a good checksum', () => {
  it('huge numbers in a superblock are refused', () => {
    const { image } = sample(true);
    for (const [offset, width] of [
      [28, 4],
      [20, 4],
      [24, 4],
      [32, 8],
      [72, 8],
      [80, 8],
      [88, 8],
      [56, 8],
      [64, 8],
    ] as const) {
      const changed = image.slice();
      for (const copy of [0, 8]) {
        changed.fill(0xff, copy * 512 + offset, copy * 512 + offset + width);
        reseal(changed, copy * 512);
      }
      expect(
        codeThrown(() => reopen(deviceOf(changed))),
        `${width} bytes at ${offset}`,
      ).toBe('EINTEGRITY');
    }
  });
});

it('a sequence number that leaves none for the next group is an error that says what to do', () => {
  const { image } = sample(true);
  for (const copy of [0, 8]) {
    const field = new DataView(image.buffer, copy * 512 + SUPERBLOCK.frontierSequence, 8);
    field.setBigUint64(0, BigInt(Number.MAX_SAFE_INTEGER), true);
    reseal(image, copy * 512);
  }
  const device = deviceOf(image);
  expect(codeThrown(() => reopen(device).putAtomic('/state/a', bytes(1)))).toBe('EROFS');
  expect(Buffer.compare(imageOf(device), image)).toBe(0);
  expect(reopen(device).get('/state/last')).toEqual(bytes(40, 6));
});

function noise(length: number): Uint8Array {
  const out = new Uint8Array(length);
  new Sfc32(7).fill(out);
  return out;
}
